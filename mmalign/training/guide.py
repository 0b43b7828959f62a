"""A frozen guide of training: another model, whose similarities between training records identify false negatives."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmalign.bundles import bundle
from mmalign.data.caching.sample_cache import Samples
from mmalign.data.dataset import Dataset
from mmalign.embedding.jagged import pack
from mmalign.embedding.loop import EmbeddedSplit, averaged
from mmalign.errors import BadSample, UserError
from mmalign.model import Aligner
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.registry import nearest
from mmalign.types import Batch, Guide

BATCH = 256
"""Samples per forward pass of the guide."""


@dataclass
class GuideConfig:
    """A frozen model that removes false negatives from the loss of clip and siglip (GISTEmbed, arXiv 2402.16829).

    A negative that the guide scores above the positive, less the margins, leaves the sum of its row or column. The
    guide embeds the training records once, without augmentation; a record with several alternatives has their mean
    vector.

    Args:
        weights: Bundle or run folder of the guide.
        towers: Tower of this model -> tower of the guide that reads its samples, where the names differ. Of a pair of
            which the guide reads one tower only, the samples of that tower are compared with each other; the positive
            is then the sample itself, with similarity 1, so that a margin is needed.
        margin: Absolute margin: a negative is left out above the positive's similarity minus this.
        relative_margin: Margin as a fraction of the positive's similarity.
    """

    weights: str
    towers: dict[str, str] = field(default_factory=dict)
    margin: float = 0.0
    relative_margin: float = 0.0

    def __post_init__(self) -> None:
        """Check the margins."""
        for name, value in (("margin", self.margin), ("relative_margin", self.relative_margin)):
            if not math.isfinite(value):
                raise UserError(f"model.guide.{name}: expected a finite number, got {value}")


class Guidance:
    """Adds the guide's vectors to the batches of training.

    Args:
        config: The margins.
        vectors: Tower of the trained model -> the guide's vector of each record of the data, `(records, width)`; zero
            where it is not a training record with that tower.
        pairs: Towers a and b of each guided pair -> the towers whose vectors are compared.
        bundle: Hash of the guide.
    """

    def __init__(
        self,
        config: GuideConfig,
        vectors: Mapping[str, Tensor],
        pairs: Mapping[tuple[str, str], tuple[str, str]],
        bundle: str = "",
    ) -> None:
        self.config, self.pairs, self.bundle = config, dict(pairs), bundle
        self._vectors = dict(vectors)

    @classmethod
    def of(cls, config: GuideConfig, model: Aligner, data: Dataset) -> "Guidance":
        """Load the guide and embed the training records with it.

        Args:
            config: Which guide, and its margins.
            model: The model that is trained.
            data: Its data.

        Raises:
            UserError: no objective uses a guide, the guide reads neither tower of a pair, it cannot read a record, or
                one tower is compared with itself without a margin.
        """
        guide = bundle.load(config.weights)
        known = {tower: config.towers.get(tower, tower) for tower in model.towers}
        for tower, its in config.towers.items():
            if tower not in model.towers:
                raise UserError(f"model.guide.towers: no tower {tower!r}{nearest(tower, model.towers)}")
            if its not in guide.towers:
                raise UserError(
                    f"model.guide.towers.{tower}: the guide has no tower {its!r}{nearest(its, guide.towers)}"
                )
        guided = [pair for pair, one in zip(model.pairs, model.objective.objectives, strict=True) if one.guided]
        if not guided:
            raise UserError("model.guide: no pair has an objective that uses a guide; these do: clip, siglip")
        compared = {(pair.a, pair.b): _compared(config, pair, known, guide) for pair in guided}
        towers = sorted({tower for both in compared.values() for tower in both})
        vectors = {tower: _vectors(guide, known[tower], tower, data) for tower in towers}
        return cls(config, vectors, compared, bundle.fingerprint(config.weights))

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the guide's vectors of its rows."""
        ids, config = batch.ids, self.config
        self._vectors = {tower: vectors.to(ids.device) for tower, vectors in self._vectors.items()}
        guides = {
            pair: Guide(self._vectors[a][ids], self._vectors[b][ids], config.margin, config.relative_margin)
            for pair, (a, b) in self.pairs.items()
        }
        return replace(batch, guides=guides)


def _compared(config: GuideConfig, pair: PairConfig, known: Mapping[str, str], guide: Aligner) -> tuple[str, str]:
    """The towers of a pair whose samples the guide compares."""
    reads = [tower for tower in (pair.a, pair.b) if known[tower] in guide.towers]
    if not reads:
        raise UserError(
            f"model.guide: the guide reads neither {pair.a!r} nor {pair.b!r}, it has {', '.join(guide.towers)}; name "
            f"the tower with --model.guide.towers.{pair.a} TOWER"
        )
    if len(set(reads)) == 1 and config.margin + config.relative_margin <= 0:
        raise UserError(
            f"model.guide: it compares the samples of {reads[0]!r} with each other: the positive has similarity 1, and "
            "no negative is above it; set a margin, such as --model.guide.margin 0.1"
        )
    return reads[0], reads[-1]


def _vectors(guide: Aligner, its: str, tower: str, data: Dataset) -> Tensor:
    """The guide's vector of each record of the data, `(records, width)`; zero where it is not trained on."""
    train, config = data.split("train"), data.config
    cache: dict[str, Any] = {"folder": config.cache_folder, "workers": config.workers}
    samples = Samples(data.source, data.records, {tower: guide.modalities[its]}, cache_bytes=0, **cache)
    batches = replace(train, store=samples).batches(tower, guide.transforms[its], batch_size=BATCH)
    try:
        embeddings = guide.embed_batches(its, batches, partial(pack, vectors_only=True))
    except BadSample as error:
        raise UserError(f"model.guide: it cannot read a sample of {tower!r}: {error}") from error
    if embeddings is None:
        raise UserError(f"model.guide: no training record has a {tower!r}")
    embedded = averaged(EmbeddedSplit(*embeddings))
    vectors = torch.zeros(len(data.records), embedded.embedding.vector.shape[1])
    vectors[torch.tensor(train.indices)[embedded.record_indices]] = embedded.embedding.vector
    return vectors
