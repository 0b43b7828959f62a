"""How far perturbations move a tower's embeddings: squared distances, and the features of the perturbed samples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.metrics.labels import groups_of
from mmalign.evaluation.metrics.weighted import Ints
from mmalign.evaluation.perturbed_split import keyed_generator, perturbing
from mmalign.heads.fitted_variance import variance_features
from mmalign.inference import finite_vectors, run_batches
from mmalign.model import Aligner
from mmalign.registry import nearest
from mmalign.types import Inputs


@dataclass(frozen=True)
class PerturbedPairs:
    """Perturbed samples beside the unperturbed ones.

    Args:
        features: Features of the perturbed samples, see `variance_features`, `(n, features)`.
        squared: Squared distance of each embedding from that of the unperturbed sample, `(n,)` float64.
        kinds: Perturbation and level of each.
        groups: Group (patient) of each, as a number, `(n,)`.
    """

    features: Tensor
    squared: Tensor
    kinds: Sequence[tuple[str, float]]
    groups: Ints


def ladder_of(model: Aligner, tower: str, names: Sequence[str]) -> Mapping[str, Sequence[float]]:
    """The perturbations of a tower's modality and their levels.

    Raises:
        UserError: the modality has no perturbations, or none of a name.
    """
    known = perturbing(model, tower, "variance").perturbations
    for name in names:
        if name not in known:
            raise UserError(f"--perturbations: no perturbation called {name!r}{nearest(name, known)}")
    return {name: known[name] for name in names or known}


def perturbed_pairs(
    model: Aligner,
    data: Dataset,
    tower: str,
    split: str,
    ladder: Mapping[str, Sequence[float]],
    *,
    copies: int,
    samples: int,
    seed: int,
    batch_size: int,
) -> PerturbedPairs:
    """Embed samples of a split, and perturbed copies of each: a random perturbation at a random level.

    The choices of a copy depend on the seed, the record's id, the alternative and the copy's number alone.

    Args:
        model: The model.
        data: Opened with the model's modalities, and the split read.
        tower: The tower.
        split: Whose records.
        ladder: Perturbation -> levels.
        copies: Perturbed copies of each sample.
        samples: Maximum number of samples; of more, some are drawn at random.
        seed: Seed of all choices.
        batch_size: Items per forward pass.

    Raises:
        UserError: no record of the split has the tower.
    """
    modality, transform, part = perturbing(model, tower), model.transforms[tower], data.split(split)
    rows = [row for row, record in enumerate(part.records) for _ in record.values.get(tower, ())]
    if not rows:
        raise UserError(f"no record of split {split!r} has a {tower!r}; see mmalign check for what each split holds")
    chosen = set(np.random.default_rng(seed).permutation(len(rows))[:samples].tolist())
    kinds: list[tuple[str, float]] = []

    def items() -> Iterator[tuple[Any, int]]:
        """The item of each chosen sample, and behind it those of its copies; with the index of its record."""
        alternative = 0
        for index, sample in enumerate(part.samples(tower)):
            alternative = alternative + 1 if index and rows[index - 1] == rows[index] else 0
            if index not in chosen:
                continue
            yield transform.item(sample), rows[index]
            for copy in range(copies):
                rng = keyed_generator(seed, f"{part.records[rows[index]].id}\0{alternative}\0{copy}")
                name = list(ladder)[int(rng.integers(len(ladder)))]
                level = ladder[name][int(rng.integers(len(ladder[name])))]
                kinds.append((name, level))
                yield transform.item(modality.perturb(sample, transform, name, level, rng)), rows[index]

    def batches() -> Iterator[tuple[Inputs, Tensor]]:
        every = items()
        while chunk := list(islice(every, batch_size)):
            yield transform.collate([item for item, _ in chunk]), torch.tensor([row for _, row in chunk])

    def forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
        features = model.encoders[tower](inputs)
        embedding = model.heads[tower](features, tower, model.codebook)
        wide = variance_features(model.encoders[tower], inputs, features.vector)
        return finite_vectors(embedding, tower).vector.double().cpu(), wide.float().cpu()

    embedded = run_batches(model, batches(), forward, _join)
    assert embedded is not None
    (vectors, features), indices = embedded
    place = torch.arange(len(vectors)).view(-1, copies + 1)
    first, others = place[:, :1], place[:, 1:]
    squared = (vectors[others] - vectors[first]).square().sum(2).flatten()
    groups = groups_of(part.records, indices[others.flatten()])
    return PerturbedPairs(features[others.flatten()], squared, kinds, groups)


def _join(outputs: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    vectors, features = zip(*outputs, strict=True)
    return torch.cat(vectors), torch.cat(features)
