"""The Aligner: towers (transform, encoder, heads), and the objectives of their pairs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmalign import distributed, registry
from mmalign.capabilities import Masking
from mmalign.data.truncation import TruncationCounter
from mmalign.errors import UserError
from mmalign.heads import Codebook, CodebookConfig, FittedVariances, GaussianConfig, HeadSet
from mmalign.heads.gaussian import Pool
from mmalign.inference import Counted, as_items, finite_vectors, item_of, run_batches
from mmalign.lora import add_lora, keep_statistics
from mmalign.modality import Encoder, Transform
from mmalign.objectives.pairs.gradient_norms import GradientNorms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.objectives.pairs.two_views import SelfPairs
from mmalign.objectives.parts.correspondence import Correspondence
from mmalign.towers import TowerConfig, describe_towers, fit_transforms, freeze_encoder, identity_width, modality_of
from mmalign.types import Batch, Embedding, Inputs, LossOutput

__all__ = ["Aligner", "TowerConfig", "fit_transforms", "modality_of"]


class Aligner(nn.Module):
    """Encoders of any modalities in one shared space.

    Args:
        towers: Name -> configuration; `encode` and the data's columns use the same names.
        pairs: Pairs of towers and their objectives.
        dim: Size of the shared space; None = the width of the encoders with head identity.
        transforms: Name -> fitted transform, see `fit_transforms`.
        codebook: Codebook shared by all towers; built if an objective needs codes.
        gaussian: Log-variance heads; built if an objective needs them.
        variances: Tower -> number of features of its fitted variance, see `mmalign.fit_variance`.

    Example:
        >>> towers = {tower: TowerConfig(modality="vector", args={"width": 4}) for tower in ("left", "right")}
        >>> transforms = fit_transforms(towers, {"left": [], "right": []})
        >>> model = Aligner(towers, [PairConfig("left", "right")], dim=2, transforms=transforms)
        >>> a = model.encode("left", [[1.0, 2.0, 3.0, 4.0]])
        >>> b = model.encode("right", [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
        >>> model.similarity(a, b).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        towers: Mapping[str, TowerConfig],
        pairs: Sequence[PairConfig],
        dim: int | None,
        transforms: Mapping[str, Transform],
        codebook: CodebookConfig | None = None,
        gaussian: GaussianConfig | None = None,
        variances: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        for name in (name for pair in pairs for name in (pair.a, pair.b) if name not in towers):
            raise UserError(f"a pair names the tower {name!r}{registry.nearest(name, towers)}")
        self.towers = dict(towers)
        self.provenance: dict[str, Any] = {}  # filled by `mmalign.load`, as is `path`
        self.path: Path | None = None
        self.modalities, self.transforms = {n: modality_of(n, tower) for n, tower in towers.items()}, dict(transforms)
        # Where dim is set, encoders are built last: their random weights depend on the order.
        built = {name: self._encoder(name) for name in towers} if dim is None else {}
        self.dim = dim = identity_width(towers, built) if dim is None else dim
        self.encoders, self.heads = nn.ModuleDict(), nn.ModuleDict()
        self.objective = PairSum(pairs, dim)
        self.frozen: set[str] = set()
        self.adapted: set[str] = set()
        self.codebook_config, self.gaussian_config = codebook or CodebookConfig(), gaussian or GaussianConfig()
        needs = {name: self.objective.needs_of(name) for name in towers}
        # One codebook for all towers: the codes are shared by the modalities.
        wanted = any("codes" in needed for needed in needs.values())
        self.codebook = Codebook(dim, self.codebook_config) if wanted else None
        for name, tower in towers.items():
            self.encoders[name] = encoder = built.get(name) or self._encoder(name)
            kind = replace(self.gaussian_config, pool=cast(Pool, tower.uncertainty or self.gaussian_config.pool))
            self.heads[name] = HeadSet(encoder, dim, needs[name], tower.head, kind, tower.reduce, tower.group_whitening)
        self.variances = FittedVariances(variances, dim, needs)
        self._mask_ratios = {name: self.objective.mask_ratio_of(name) for name in towers}
        self._self_pairs = SelfPairs(self.objective)

    def _encoder(self, name: str) -> Encoder:
        tower = self.towers[name]
        return self.modalities[name].encoder(tower.encoder, self.transforms[name], **tower.args)

    def embed(self, name: str, inputs: Inputs) -> Embedding:
        """Run one tower on collated inputs."""
        features = self.encoders[name](inputs)
        embedding = self.heads[name](features, name, self.codebook)
        return self.variances.add(embedding, self.encoders[name], inputs, features.vector)

    def forward(self, batch: Batch) -> dict[str, Embedding]:
        """Embed every tower of a batch; the embedding of a tower that no row has is empty.

        Gradient caching (Gao et al. 2021, arXiv 2101.06983): a tower with chunked inputs runs chunk by chunk, and each
        chunk runs again in backward. The gradient is that of the whole batch, random draws included; the memory is that
        of one chunk.
        """
        return self._views(batch.inputs, self.towers)

    def _views(self, inputs: Mapping[str, Inputs | list[Inputs]], names: Iterable[str]) -> dict[str, Embedding]:
        return {name: self._embed_all(name, inputs[name]) if name in inputs else self._empty(name) for name in names}

    def _embed_all(self, name: str, inputs: Inputs | list[Inputs]) -> Embedding:
        if not isinstance(inputs, list):
            return self._view(name, inputs)
        if not torch.is_grad_enabled():
            return Embedding.cat([self._view(name, chunk) for chunk in inputs])
        return Embedding.cat([checkpoint(self._view, name, chunk, use_reentrant=False) for chunk in inputs])

    def _view(self, name: str, inputs: Inputs) -> Embedding:
        """As `embed`; for masked pretraining, of masked inputs and with the decoder's reconstruction."""
        if not self._mask_ratios[name]:
            return self.embed(name, inputs)
        # In validation the mask is the same every time, so that losses are comparable between epochs.
        draw = None if self.training else torch.Generator().manual_seed(0)
        encoder = cast(Masking, self.encoders[name])
        masked = encoder.mask_inputs(inputs, self._mask_ratios[name], draw)
        return self.heads[name](self.encoders[name](masked[0]), name, self.codebook, masked)  # type: ignore[no-any-return]

    def _empty(self, name: str) -> Embedding:
        heads = self.heads[name]
        assert isinstance(heads, HeadSet)
        linked = self.encoders[name] if self.training and torch.is_grad_enabled() else None
        return self.variances.add_empty(heads.empty(self.device, name, self.codebook, linked))

    def loss(self, batch: Batch, gradient_norms: GradientNorms | None = None) -> LossOutput:
        """Embed a batch and sum the pairs' objectives; `gradient_norms` records each term's gradient norm in backward.

        In training, a tower paired with itself is run twice: its two views differ by dropout, masking and `data.views`.
        """
        again, embeddings = self.second_views(batch), self(batch)
        self._self_pairs.warn_if_equal(embeddings, again)
        output: LossOutput = self.objective(embeddings, batch, gradient_norms, again)
        if not (self.training and distributed.is_distributed()):
            return output
        # DDP waits for a gradient of every parameter; a process whose rows lack a tower has none of that tower's.
        loss = distributed.reach(output.loss, [p for p in self.parameters() if p.requires_grad])
        return LossOutput(loss, output.terms)

    def second_views(self, batch: Batch) -> dict[str, Embedding]:
        """Second embeddings of the towers that are paired with themselves; outside training, if the batch has views."""
        return self._views({**batch.inputs, **batch.again}, self._self_pairs.run_twice(batch, training=self.training))

    def set_progress(self, progress: float) -> None:
        """Set scheduled values (weights, temperatures) for this fraction of the training."""
        self.objective.set_progress(progress)
        if self.codebook is not None:
            self.codebook.set_progress(progress)

    def train(self, mode: bool = True) -> "Aligner":
        """As `nn.Module.train`; frozen encoders stay in eval mode, so that their statistics do not change."""
        super().train(mode)
        for name in self.frozen:
            self.encoders[name].eval()
        for name in self.adapted:
            keep_statistics(self.encoders[name])
        return self

    def adapt(self) -> None:
        """Add the configured LoRA adapters; what the model computes does not change before they are trained."""
        self.adapted = {n for n, t in self.towers.items() if t.lora and add_lora(n, t.lora, self.encoders[n])}
        self.train(self.training)

    def freeze(self, epoch: int) -> None:
        """Freeze and unfreeze encoders for this epoch (0-based), as configured by `TowerConfig`."""
        frozen = {n: freeze_encoder(n, t, self.encoders[n], epoch) for n, t in self.towers.items() if t.freeze}
        self.frozen = {name for name, whole in frozen.items() if whole}
        self.train(self.training)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def encode(self, name: str, items: Any, *, batch_size: int = 64) -> Embedding:
        """Embed paths, bytes, arrays or strings with one tower.

        Args:
            name: The tower.
            items: A list of items that the modality reads (paths, bytes, arrays, strings), or one such item. An array
                of numbers is one item: pass `list(matrix)` to embed its rows. An array of strings is a list.
            batch_size: Items per forward pass.

        Returns:
            An `Embedding` of `len(items)` rows, in order, on the CPU, float32.

        Raises:
            BadSample: an item cannot be read; the message has its index.
            UserError: there is no such tower.
        """
        if name not in self.encoders:
            raise UserError(f"no tower called {name!r}{registry.nearest(name, self.encoders)}")
        items = as_items(items)
        cut = TruncationCounter(name, self.transforms[name])

        def batches() -> Iterator[tuple[Inputs, Tensor]]:
            modality, transform = self.modalities[name], self.transforms[name]
            for start in range(0, len(items), batch_size):
                indices = range(start, min(start + batch_size, len(items)))
                chunk = [item_of(modality, transform, items[i], f"{name} item {i}", cut.add) for i in indices]
                yield transform.collate(chunk), torch.tensor(indices)

        embedded = self.embed_batches(name, Counted(batches(), -(-len(items) // batch_size)))
        cut.warn()
        return self._empty(name).to("cpu", torch.float32) if embedded is None else embedded[0]

    def embed_batches(
        self,
        name: str,
        batches: Iterable[tuple[Inputs, Tensor]],
        join: Callable[[Iterable[Embedding]], Embedding] | None = None,
    ) -> tuple[Embedding, Tensor] | None:
        """Embed collated batches of one tower, on the CPU, float32; None where there is none.

        Args:
            name: The tower.
            batches: Collated inputs, and the index of each item.
            join: Joins the embeddings of batches; by default `Embedding.cat`.
        """
        return run_batches(
            self,
            batches,
            lambda inputs: finite_vectors(self.embed(name, inputs).to("cpu", torch.float32), name),
            join or (lambda parts: Embedding.cat([*parts])),
        )

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Similarity of every row of `a` with every row of `b`, by the pair's objectives.

        Args:
            a: `n` rows of one tower.
            b: `m` rows of another.
            score: Another score of the pair's objective, such as mean or probability of pcmepp.

        Shape:
            `(n, m)`, higher = more similar. The cosine for CLIP, SigLIP and never-paired towers, without learnt scale.
        """
        return self.objective.similarity(a, b, score)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Similarity `(n,)` of each row of `a` with the same row of `b`: the diagonal of `similarity`.

        Args:
            a: `n` rows of one tower.
            b: `n` rows of another.
            score: As in `similarity`.
        """
        return self.objective.similarity_pairwise(a, b, score)

    @property
    def pairs(self) -> list[PairConfig]:
        """The trained pairs, in the configured order."""
        return list(self.objective.pairs)

    def scores_vectors_only(self, a: str, b: str) -> bool:
        """Whether the similarity of these two towers reads only unit vectors, not tokens, variances or codes."""
        return self.objective.scores_of_vectors(a, b)

    def emergent_path(self, a: str, b: str) -> list[str] | None:
        """The towers that join two never-paired towers, both included; see `PairSum.emergent_path`."""
        return self.objective.emergent_path(a, b)

    def logit_scale(self, a: str, b: str) -> float:
        """The learnt scale of the similarities in the pair's loss, see `PairSum.logit_scale`."""
        return self.objective.logit_scale(a, b)

    def logit_bias(self, a: str, b: str) -> float:
        """The learnt bias of the logits in the pair's loss (SigLIP), see `PairSum.logit_bias`."""
        return self.objective.logit_bias(a, b)

    def correspondence(self, a: Embedding, b: Embedding, term: str = "") -> Correspondence:
        """Token correspondence of two samples, by the first term of their pair that has one.

        Args:
            a: One row of one tower.
            b: One row of another.
            term: Another term: the name of its objective, or its label where several have that name.
        """
        return self.objective.correspondence(a, b, term)

    def config(self) -> dict[str, Any]:
        """Configuration that rebuilds this model without network, data or pretrained weights, as JSON values."""
        return {
            "dim": self.dim,
            "towers": describe_towers(self.towers, self.encoders, self.modalities, self.adapted),
            "pairs": [asdict(pair) for pair in self.pairs],
            "codebook": asdict(self.codebook_config),
            "gaussian": asdict(self.gaussian_config),
            **self.variances.config(),
        }
