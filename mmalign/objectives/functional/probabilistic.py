"""PCME++ and ProLIP losses: binary cross-entropy of every pair of Gaussians."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.own_rows import warn_own_rows
from mmalign.objectives.functional.contrastive import whole_siglip_loss
from mmalign.objectives.functional.gaussians import closed_form_sampled_distance, spread, wide


def pcmepp_loss(
    mean_a: Tensor,
    log_variance_a: Tensor,
    mean_b: Tensor,
    log_variance_b: Tensor,
    *,
    scale: Tensor | float,
    bias: Tensor | float,
    groups_a: Tensor | None = None,
    groups_b: Tensor | None = None,
    targets: Tensor | None = None,
    pseudo_weight: float = 0.1,
    reduction: Literal["pairs", "rows"] = "pairs",
) -> Tensor:
    """PCME++ loss: binary cross-entropy of every pair by the distance of its Gaussians, with pseudo-positives.

    With `s_ij = bias - scale d_ij` (`closed_form_sampled_distance`), BCE the mean binary cross-entropy over all pairs
    and y the targets:

        loss = 2 BCE(s, y) + pseudo_weight (BCE(s, y^rows) + BCE(s, y^columns))

    (Chun 2024, PCME++, arXiv 2305.18171.) `y^rows` are the pseudo-positives: in each row, a pair that scores at least
    as high as a positive has at least its target; `y^columns` the same in each column. No gradient flows through this
    selection. A row without a positive has no pseudo-positives. `information_bottleneck` is a separate term.

    Args:
        mean_a: `(n, dim)`, usually unit vectors.
        log_variance_a: `(n, dim)`.
        mean_b: `(m, dim)`.
        log_variance_b: `(m, dim)`.
        scale: Multiplies the distances; at least zero, so that near pairs match.
        bias: Added to the logits; the published initial value is 5 for both.
        groups_a: `(n,)` integers; equal group = positive. Without groups or targets `n` must be `m`, and row i matches
            column i.
        groups_b: `(m,)`.
        targets: `(n, m)` in [0, 1], instead of groups, for instance of mixed samples.
        pseudo_weight: Weight of the pseudo-positives; 0 = none.
        reduction: Divisor of the sum over pairs: `pairs` (n m, as published; the weight of the positives shrinks as the
            batch grows) or `rows` (n).

    Returns:
        Scalar, in float32 (float64 where an input is); zero, with a graph, where a or b is empty.

    Raises:
        UserError: shapes, groups or targets do not fit, or (on the CPU) got NaN or infinity, or a scale below zero.

    Example:
        >>> eye, sure = torch.eye(3), torch.full((3, 3), -20.0)
        >>> pcmepp_loss(eye, sure, eye, sure, scale=0.0, bias=0.0, pseudo_weight=0.0)  # coin tosses: 2 log 2
        tensor(1.3863)
        >>> pcmepp_loss(eye, sure, eye, sure, scale=5.0, bias=5.0)  # 2.2 log(1 + exp(-5))
        tensor(0.0148)
    """
    warn_own_rows("pcmepp_loss", "the objective pcmepp")
    if reduction not in ("pairs", "rows"):
        raise UserError(f"expected reduction pairs or rows, got {reduction}")
    distance = closed_form_sampled_distance(mean_a, log_variance_a, mean_b, log_variance_b)
    scale, bias = _number(scale, distance), _number(bias, distance)
    logits = match_logits(distance, scale, bias)
    labels = match_labels(logits, targets, groups_a, groups_b)
    loss = match_cross_entropy(logits, soften(logits, labels, pseudo_weight, soft=targets is not None), pseudo_weight)
    return loss / max(logits.numel() if reduction == "pairs" else len(logits), 1)


def match_logits(distance: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """`bias - scale distance`, checked: finite values, and a scale of at least zero."""
    logits = bias - scale * distance
    if logits.device.type == "cpu" and not bool(logits.isfinite().all()):
        raise UserError("PCME++ expected finite means, log-variances, scale and bias, and got NaN or infinity")
    if scale.device.type == "cpu" and float(scale.detach()) < 0:
        raise UserError(f"expected a scale of at least zero, got {float(scale.detach())}: it would push pairs apart")
    return logits


@torch.no_grad()
def soften(logits: Tensor, labels: Tensor, pseudo_weight: float, *, soft: bool) -> Tensor:
    """One target that combines labels and both kinds of pseudo-positives, `(n, m)`.

    Cross-entropy is linear in its target, so the three terms of the loss equal one term with their mean as target.

    Args:
        logits: `(n, m)` of the global batch.
        labels: `(n, m)` in [0, 1].
        pseudo_weight: Weight of the pseudo-positives; that of the labels is 2.
        soft: Whether some labels lie between 0 and 1.
    """
    rows, columns = _pseudo(logits, labels, soft=soft), _pseudo(logits.T, labels.T, soft=soft).T
    return (2 * labels + pseudo_weight * (rows + columns)) / (2 + 2 * pseudo_weight)


def match_cross_entropy(logits: Tensor, target: Tensor, pseudo_weight: float) -> Tensor:
    """Sum over pairs of `2 BCE + pseudo_weight (BCE_rows + BCE_columns)`, with the target of `soften`."""
    return (2 + 2 * pseudo_weight) * F.binary_cross_entropy_with_logits(logits, target, reduction="sum")


def prolip_loss(
    mean_a: Tensor,
    log_variance_a: Tensor,
    mean_b: Tensor,
    log_variance_b: Tensor,
    *,
    scale: Tensor | float,
    bias: Tensor | float,
    groups_a: Tensor | None = None,
    groups_b: Tensor | None = None,
) -> Tensor:
    """ProLIP loss: SigLIP's loss with logits that the variances of both Gaussians lower.

        s_ij = scale (mu_i . mu_j - 1/2 sum_k (exp l_ik + exp l_jk)) + bias
        loss = - 1/n sum_ij log sigmoid(y_ij s_ij)

    (Chun et al. 2025, ProLIP, arXiv 2410.18857.) For unit means `s = scale - scale d / 2 + bias`, with d the
    `closed_form_sampled_distance`. The variances are two additional dimensions of the vectors, so it is `siglip_loss`:
    tiled, no matrix of pairs, several positives. `inclusion_loss` and `information_bottleneck` are separate terms.

    Args:
        mean_a: `(n, dim)`, usually unit vectors.
        log_variance_a: `(n, dim)`.
        mean_b: `(m, dim)`.
        log_variance_b: `(m, dim)`.
        scale: Multiplies the similarities; the published initial value is 1/0.07.
        bias: Added to the logits; the published initial value is -10.
        groups_a: `(n,)` integers; equal group = positive. Without groups `n` must be `m` and row i matches column i.
        groups_b: `(m,)`.

    Returns:
        Scalar, in float32 (float64 where an input is).

    Raises:
        UserError: shapes or groups do not fit, or (on the CPU) got NaN or infinity.

    Example:
        >>> eye, sure = torch.eye(4), torch.full((4, 4), -20.0)
        >>> prolip_loss(eye, sure, eye, sure, scale=0.0, bias=0.0)  # 4 coin tosses a row: 4 log 2
        tensor(2.7726)
    """
    warn_own_rows("prolip_loss", "the objective prolip")
    mean_a, log_variance_a, mean_b, log_variance_b = wide(mean_a, log_variance_a, mean_b, log_variance_b)
    a, b = prolip_vectors(mean_a, log_variance_a, "a"), prolip_vectors(mean_b, log_variance_b, "b")
    return whole_siglip_loss(a, b, scale, bias, groups_a=groups_a, groups_b=groups_b)


def prolip_vectors(mean: Tensor, log_variance: Tensor, side: Literal["a", "b"]) -> Tensor:
    """Vectors whose dot products are ProLIP's similarities: the mean, half the variances and a one, or the reverse.

    Shape:
        `(n, dim)` twice -> `(n, dim + 2)`.

    Example:
        >>> mean, sure = torch.eye(2), torch.full((2, 2), -20.0)
        >>> (prolip_vectors(mean, sure, "a") @ prolip_vectors(mean, sure, "b").T).round(decimals=4).abs()
        tensor([[1., 0.],
                [0., 1.]])
    """
    half = -spread(log_variance)[:, None] / 2
    pair = [half, torch.ones_like(half)]
    return torch.cat([mean, *(pair if side == "a" else reversed(pair))], dim=1)


@torch.no_grad()
def match_labels(logits: Tensor, targets: Tensor | None, groups_a: Tensor | None, groups_b: Tensor | None) -> Tensor:
    """Match labels of all pairs, `(n, m)`: from targets, from groups, or the diagonal."""
    n, m = logits.shape
    if (groups_a is None) != (groups_b is None):
        raise UserError("groups_a and groups_b must be given together, or neither")
    if targets is not None:
        if targets.shape != logits.shape or groups_a is not None:
            came = f"{tuple(targets.shape)}{' and groups' if groups_a is not None else ''}"
            raise UserError(f"expected targets of shape {(n, m)} and no groups, got {came}")
        labels = targets.to(logits.dtype)
        if labels.device.type == "cpu" and not bool(((labels >= 0) & (labels <= 1)).all()):
            raise UserError("expected targets from 0 to 1")
        return labels
    if groups_a is None or groups_b is None:
        if n != m:
            raise UserError(f"{n} rows and {m} columns: without groups there must be as many of each")
        return torch.eye(n, dtype=logits.dtype, device=logits.device)
    if groups_a.shape != (n,) or groups_b.shape != (m,):
        came = f"{tuple(groups_a.shape)} for {n} rows and {tuple(groups_b.shape)} for {m}"
        raise UserError(f"expected one group per row, got shapes {came}")
    return (groups_a[:, None] == groups_b).to(logits.dtype)


def _pseudo(logits: Tensor, labels: Tensor, *, soft: bool) -> Tensor:
    """Pseudo-positive labels: in each row, the highest label among the pairs with an equal or lower score."""
    if not logits.numel():
        return labels
    if not soft:
        least = logits.masked_fill(labels == 0, torch.inf).amin(1, keepdim=True)
        return (logits >= least).to(labels.dtype)
    ordered = logits.contiguous().sort(1)
    highest = labels.gather(1, ordered.indices).cummax(1).values
    last = torch.searchsorted(ordered.values, logits.contiguous(), right=True) - 1  # the last of those that tie
    return highest.gather(1, last)


def _number(value: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(())
