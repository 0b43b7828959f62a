"""PCME++ and ProLIP as objectives: probabilistic embeddings, each sample a Gaussian."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.contrastive import SiglipObjective, cosines
from mmalign.objectives.functional.gaussians import (
    closed_form_sampled_distance,
    inclusion_score,
    variance_price,
)
from mmalign.objectives.functional.probabilistic import (
    match_cross_entropy,
    match_labels,
    match_logits,
    prolip_vectors,
    soften,
)
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.objectives.parts.logit_scale import ScaledObjective
from mmalign.types import Embedding, LossOutput, Mixed


class PcmeppObjective(ScaledObjective):
    """Binary classification of every pair by the distance of its Gaussians (PCME++, arXiv 2305.18171).

    Args:
        initial_scale: Initial factor of the distances; 5 as published.
        initial_bias: Initial bias, from which the scaled distance is subtracted; 5 as published.
        pseudo_weight: Weight of the pseudo-positives: pairs that score at least as high as a positive.
        bottleneck: Weight of the variance regulariser (`information_bottleneck` of both towers).
        reduction: Divisor of the sum over pairs: pairs, as published, or rows, with which the weight of the positives
            does not shrink as the batch grows.

    Scores:
        mean: cosine of the means; probability: of a match.

    Example:
        >>> embedding = Embedding(torch.eye(3), log_variance=torch.zeros(3, 3))
        >>> PcmeppObjective().similarity(embedding, embedding)  # minus squared distance and six variances of 1
        tensor([[-6., -8., -8.],
                [-8., -6., -8.],
                [-8., -8., -6.]])
    """

    needs = frozenset({"vector", "log_variance"})
    scores = ("mean", "probability")
    mixes = True

    def __init__(
        self,
        initial_scale: float = 5.0,
        initial_bias: float = 5.0,
        pseudo_weight: float = 0.1,
        bottleneck: float = 1e-4,
        reduction: Literal["pairs", "rows"] = "pairs",
    ) -> None:
        super().__init__(initial_scale, max_scale=None)
        if reduction not in ("pairs", "rows"):
            raise UserError(f"pcmepp: reduction must be pairs or rows, got {reduction!r}")
        if pseudo_weight < 0 or bottleneck < 0:
            raise UserError(f"pcmepp: weights must not be below 0, got {pseudo_weight:g} and {bottleneck:g}")
        self.bias = nn.Parameter(torch.tensor([float(initial_bias)]))
        self.pseudo_weight, self.bottleneck, self.reduction = pseudo_weight, bottleneck, reduction

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """`functional.pcmepp_loss` of own rows of `a` against all rows of `b`, and the information bottleneck.

        Rows of tower a that were mixed from two samples match the rows of both, with the samples' weights as targets.

        Raises:
            UserError: a tower has no log-variance, or (on the CPU) got NaN or infinity; `mixed` does not have one
                group and one weight from 0 to 1 for each own row.
        """
        mixed, rows = global_batch.mixed, global_batch.own
        if mixed is not None:
            _check(mixed, len(a))
        own, every = _gaussian(a), [global_batch.gather(part) for part in _gaussian(b)]
        distance = closed_form_sampled_distance(*own, *every)
        scale, bias = self.scale.to(distance.dtype), self.bias.to(distance.dtype)
        logits = match_logits(distance, scale, bias)
        with torch.no_grad():
            # The pseudo-positives of a column are selected among the rows of all processes.
            table, groups = global_batch.gather(logits), global_batch.groups
            if mixed is None:
                labels = match_labels(table, None, groups, groups)
            else:
                weight = global_batch.gather(mixed.weight.to(table.dtype))
                labels = Mixed(global_batch.gather(mixed.groups), weight).labels(groups)
            target = soften(table, labels, self.pseudo_weight, soft=mixed is not None)[rows]
        pairs = global_batch.size if self.reduction == "rows" else global_batch.size**2
        loss = match_cross_entropy(logits, target, self.pseudo_weight) / max(pairs, 1)
        prices = variance_price(*own), variance_price(*_gaussian(b))
        terms = {"scale": scale.detach()[0], "bias": bias.detach()[0], **_logged(prices, a, b)}
        price = global_batch.mean(prices[0]) + global_batch.mean(prices[1])
        return LossOutput(loss + self.bottleneck * price, terms)

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Negative distance of every pair, `(len(a), len(b))`; or one of `scores`."""
        if score == "mean":
            return cosines(a.vector, b.vector)
        distance = closed_form_sampled_distance(*_gaussian(a), *_gaussian(b))
        return torch.sigmoid(self.bias - self.scale * distance) if score == "probability" else -distance


class ProlipObjective(Objective):
    """SigLIP on Gaussians: the variances of both samples lower the match logit (ProLIP, arXiv 2410.18857).

    Args:
        initial_scale: Initial factor of the similarities; 1/0.07 as published.
        initial_bias: Initial bias; null = `-log(batch - 1)` of the first batch (published: -10, at a batch of 16,384).
        inclusion: Weight of the inclusion loss: the Gaussian of tower a lies inside that of tower b (an image inside
            its caption); published: 1e-7.
        inclusion_scale: Factor of the inclusion score in that loss.
        bottleneck: Weight of the variance regulariser (`information_bottleneck`).

    Scores:
        mean: cosine of the means; probability: of a match.

    Example:
        >>> embedding = Embedding(torch.eye(3), log_variance=torch.zeros(3, 3))
        >>> ProlipObjective().similarity(embedding, embedding)  # the cosine, less half of six variances of 1
        tensor([[-2., -3., -3.],
                [-3., -2., -3.],
                [-3., -3., -2.]])
    """

    needs = frozenset({"vector", "log_variance"})
    scores = ("mean", "probability")

    def __init__(
        self,
        initial_scale: float = 1 / 0.07,
        initial_bias: float | None = None,
        inclusion: float = 0.0,
        inclusion_scale: float = 10.0,
        bottleneck: float = 1e-4,
    ) -> None:
        super().__init__()
        if inclusion < 0 or bottleneck < 0:
            raise UserError(f"prolip: weights must not be below 0, got {inclusion:g} and {bottleneck:g}")
        self.siglip = SiglipObjective(initial_scale, initial_bias)
        self.inclusion, self.inclusion_scale, self.bottleneck = inclusion, inclusion_scale, bottleneck

    @property
    def scale(self) -> Tensor:
        """Factor of the similarities, `(1,)`."""
        return self.siglip.scale

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """`functional.prolip_loss` (`siglip`'s loss on extended vectors), the inclusion loss and the bottleneck."""
        own, other = _gaussian(a), _gaussian(b)
        vectors = replace(a, vector=prolip_vectors(*own, "a")), replace(b, vector=prolip_vectors(*other, "b"))
        output = self.siglip.partial_loss(*vectors, global_batch)
        prices = variance_price(*own), variance_price(*other)
        terms = {**output.terms, **_logged(prices, a, b)}
        price = global_batch.mean(prices[0]) + global_batch.mean(prices[1])
        loss = output.loss + self.bottleneck * price
        if self.inclusion:
            outside = F.softplus(-self.inclusion_scale * inclusion_score(*own, *other))
            loss, terms["inclusion"] = loss + self.inclusion * global_batch.mean(outside), outside.detach()
        return LossOutput(loss, terms)

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine minus half the variances of both, `(len(a), len(b))`; or one of `scores`."""
        if score == "mean":
            return cosines(a.vector, b.vector)
        alike = cosines(prolip_vectors(*_gaussian(a), "a"), prolip_vectors(*_gaussian(b), "b"))
        return torch.sigmoid(self.siglip.scale * alike + self.siglip.bias) if score == "probability" else alike

    def after_step(self) -> None:
        """Clamp the scale as SigLIP does."""
        self.siglip.after_step()


def _check(mixed: Mixed, rows: int) -> None:
    fits = mixed.groups.shape == mixed.weight.shape == (rows,)
    known = mixed.weight.device.type == "cpu"
    if not fits or (known and not bool(((mixed.weight >= 0) & (mixed.weight <= 1)).all())):
        came = f"{tuple(mixed.groups.shape)} groups and weights {mixed.weight.tolist() if known else 'elsewhere'}"
        raise UserError(f"mixed: expected one group and one weight from 0 to 1 for each of {rows} rows, got {came}")


def _gaussian(embedding: Embedding) -> tuple[Tensor, Tensor]:
    if embedding.log_variance is None:
        raise UserError(f"embeddings of {embedding.tower or 'this tower'} have no log_variance: no head computes them")
    dtype = torch.promote_types(embedding.vector.dtype, embedding.log_variance.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    return embedding.vector.to(dtype), embedding.log_variance.to(dtype)


def _logged(prices: tuple[Tensor, Tensor], a: Embedding, b: Embedding) -> dict[str, Tensor]:
    # The mean log-variance is -log(2 dim) initially; a head whose log-variance stays there does not train.
    def mean(embedding: Embedding) -> Tensor:
        return _gaussian(embedding)[1].detach().mean(1)  # of each row: processes may have different numbers of rows

    bottleneck = (prices[0] + prices[1]).detach()
    return {"bottleneck": bottleneck, "log_variance_a": mean(a), "log_variance_b": mean(b)}
