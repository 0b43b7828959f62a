"""Gaussians in the shared space: PCME++ and ProLIP; a sample is a mean and how unsure it is.

A sample is `N(mean, diag(exp(log_variance)))`, and `log_variance` is the logarithm of the *variance* everywhere. What
lies outside [-20, 10] is read as the border, so that no exponential overflows; the gradient there is that of the
border, and not zero, so what strayed out can come back.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional.contrastive import siglip_loss

BORDERS = (-20.0, 10.0)


def closed_form_sampled_distance(
    mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor
) -> Tensor:
    """The mean squared distance of a draw from one Gaussian to a draw from the other, for all pairs.

        d_ij = || mu_i - mu_j ||^2 + sum_k (exp l_ik + exp l_jk)

    (Chun 2024, PCME++, arXiv 2305.18171.) It is no metric: from a Gaussian to itself it is twice the sum of
    its variances. The variances come in as one sum a row and one a column: no pair holds a vector.

    Args:
        mean_a: `(n, dim)`.
        log_variance_a: `(n, dim)`.
        mean_b: `(m, dim)`.
        log_variance_b: `(m, dim)`.

    Returns:
        `(n, m)`, not negative, in float32 (float64 where an input is).

    Raises:
        UserError: shapes do not fit.

    Example:
        >>> eye, sure = torch.eye(2), torch.full((2, 2), -20.0)
        >>> closed_form_sampled_distance(eye, sure, eye, torch.zeros(2, 2))  # variance 1 in each of two dimensions
        tensor([[2., 4.],
                [4., 2.]])
    """
    mean_a, log_variance_a, mean_b, log_variance_b = _wide(mean_a, log_variance_a, mean_b, log_variance_b)
    dots: Tensor = _Dots.apply(mean_a, mean_b)
    squared = mean_a.square().sum(1)[:, None] + mean_b.square().sum(1) - 2 * dots
    return squared.clamp(min=0.0) + (_spread(log_variance_a)[:, None] + _spread(log_variance_b))


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
    """Does a pair match, yes or no, by the distance of its Gaussians; near misses count as matches a little.

    With `s_ij = bias - scale d_ij` (`closed_form_sampled_distance`), BCE the mean binary cross-entropy over all pairs
    and y the targets:

        loss = 2 BCE(s, y) + pseudo_weight (BCE(s, y^rows) + BCE(s, y^columns))

    (Chun 2024, PCME++, arXiv 2305.18171.) `y^rows` are the pseudo-positives: in each row, whatever scores at least as
    high as a positive gets at least its target; `y^columns` the same in each column. They are chosen, not learnt: no
    gradient goes through the choice. A row without a positive has no pseudo-positives. `information_bottleneck` is a
    term of its own.

    Args:
        mean_a: `(n, dim)`, usually unit vectors.
        log_variance_a: `(n, dim)`.
        mean_b: `(m, dim)`.
        log_variance_b: `(m, dim)`.
        scale: Multiplies the distances; not below zero, or near would mean apart.
        bias: Added; the published start is 5 for both.
        groups_a: `(n,)` integers; equal group = positive. Without groups or targets `n` must be `m`, and row i answers
            to column i.
        groups_b: `(m,)`.
        targets: `(n, m)` in [0, 1], instead of groups: as from mixed samples.
        pseudo_weight: The weight of the pseudo-positives; 0 leaves them out.
        reduction: What to divide the sum over pairs by: `pairs` (n m, as published; the share of the positives shrinks
            as the batch grows) or `rows` (n).

    Returns:
        Scalar, in float32 (float64 where an input is); zero, with a graph, where a side is empty.

    Raises:
        UserError: shapes, groups or targets do not fit, or (on the CPU) NaN or infinity came, or a scale below zero.

    Example:
        >>> eye, sure = torch.eye(3), torch.full((3, 3), -20.0)
        >>> pcmepp_loss(eye, sure, eye, sure, scale=0.0, bias=0.0, pseudo_weight=0.0)  # coin tosses: 2 log 2
        tensor(1.3863)
        >>> pcmepp_loss(eye, sure, eye, sure, scale=5.0, bias=5.0)  # 2.2 log(1 + exp(-5))
        tensor(0.0148)
    """
    if reduction not in ("pairs", "rows"):
        raise UserError(f"expected reduction pairs or rows, got {reduction}")
    distance = closed_form_sampled_distance(mean_a, log_variance_a, mean_b, log_variance_b)
    scale, bias = _number(scale, distance), _number(bias, distance)
    logits = bias - scale * distance
    if logits.device.type == "cpu" and not bool(logits.isfinite().all()):
        raise UserError("PCME++ expected finite means, log-variances, scale and bias, and NaN or infinity came")
    if scale.device.type == "cpu" and float(scale.detach()) < 0:
        raise UserError(f"expected a scale of at least zero, got {float(scale.detach())}: it would push pairs apart")
    with torch.no_grad():
        labels = _labels(logits, targets, groups_a, groups_b)
        # Cross-entropy is linear in its target: the three terms are one, with their mean as target.
        rows = _pseudo(logits, labels, soft=targets is not None)
        columns = _pseudo(logits.T, labels.T, soft=targets is not None).T
        weight = 2 + 2 * pseudo_weight
        mixed = (2 * labels + pseudo_weight * (rows + columns)) / weight
    total = F.binary_cross_entropy_with_logits(logits, mixed, reduction="sum")
    return weight * total / max(logits.numel() if reduction == "pairs" else len(logits), 1)


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
    """SigLIP's yes or no for every pair, where both sides' variances count against a match.

        s_ij = scale (mu_i . mu_j - 1/2 sum_k (exp l_ik + exp l_jk)) + bias
        loss = - 1/n sum_ij log sigmoid(y_ij s_ij)

    (Chun et al. 2025, ProLIP, arXiv 2410.18857.) For unit means `s = scale - scale d / 2 + bias`, with d the
    `closed_form_sampled_distance`. The variances ride as two more dimensions of the vectors, so it is `siglip_loss`:
    tiled, no matrix of pairs, several positives. `inclusion_loss` and `information_bottleneck` are terms of their own.

    Args:
        mean_a: `(n, dim)`, usually unit vectors.
        log_variance_a: `(n, dim)`.
        mean_b: `(m, dim)`.
        log_variance_b: `(m, dim)`.
        scale: Multiplies the similarities; the published start is 1/0.07.
        bias: Added; the published start is -10.
        groups_a: `(n,)` integers; equal group = positive. Without groups `n` must be `m` and row i answers to column i.
        groups_b: `(m,)`.

    Returns:
        Scalar, in float32 (float64 where an input is).

    Raises:
        UserError: shapes or groups do not fit, or (on the CPU) NaN or infinity came.

    Example:
        >>> eye, sure = torch.eye(4), torch.full((4, 4), -20.0)
        >>> prolip_loss(eye, sure, eye, sure, scale=0.0, bias=0.0)  # 4 coin tosses a row: 4 log 2
        tensor(2.7726)
    """
    mean_a, log_variance_a, mean_b, log_variance_b = _wide(mean_a, log_variance_a, mean_b, log_variance_b)
    half_a, half_b = -_spread(log_variance_a)[:, None] / 2, -_spread(log_variance_b)[:, None] / 2
    a = torch.cat([mean_a, half_a, torch.ones_like(half_a)], dim=1)
    b = torch.cat([mean_b, torch.ones_like(half_b), half_b], dim=1)
    return siglip_loss(a, b, scale, bias, groups_a=groups_a, groups_b=groups_b)


def inclusion_score(mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor) -> Tensor:
    """By how much the Gaussian of a row of `a` lies inside that of the same row of `b`, rather than around it.

    With x = v_a + 2 v_b and y = v_b + 2 v_a (v the variances, l their logarithms), summed over dimensions:

        log int p_a^2 p_b - log int p_a p_b^2
            = sum 1/2 (l_b - l_a) + 1/2 (log y - log x) + (mu_a - mu_b)^2 (v_b - v_a) / (x y)

    (Chun et al. 2025, ProLIP, arXiv 2410.18857; the two integrals carried out.) Above zero: `a` is the narrower, `b`
    the more general. Exchanging the sides changes its sign; equal Gaussians score zero.

    Args:
        mean_a: `(n, dim)`.
        log_variance_a: `(n, dim)`.
        mean_b: `(n, dim)`.
        log_variance_b: `(n, dim)`.

    Returns:
        `(n,)`, in float32 (float64 where an input is).

    Raises:
        UserError: shapes do not fit.

    Example:
        >>> same = torch.zeros(1, 1)
        >>> inclusion_score(same, same - 2, same, same)
        tensor([0.7405])
    """
    if len(mean_a) != len(mean_b):
        raise UserError(f"expected as many rows on both sides, got {len(mean_a)} and {len(mean_b)}")
    mean_a, log_variance_a, mean_b, log_variance_b = _wide(mean_a, log_variance_a, mean_b, log_variance_b)
    l_a, l_b = _bounded(log_variance_a), _bounded(log_variance_b)
    v_a, v_b = l_a.exp(), l_b.exp()
    x, y = v_a + 2 * v_b, v_b + 2 * v_a
    width = (l_b - l_a + (y.log() - x.log())) / 2
    return (width + (mean_a - mean_b).square() * ((v_b - v_a) / (x * y))).sum(1)


def inclusion_loss(
    mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor, *, scale: float
) -> Tensor:
    """Each row of `a` should lie inside the same row of `b`: `mean of - log sigmoid(scale inclusion_score)`.

    The arguments are those of `inclusion_score`. The published scales (1000, and 10 for long texts) stand beside a
    score whose coefficients on the log-variances are twice those of the integrals: they do not carry over.

    Returns:
        Scalar; zero, with a graph, where there is no row.

    Raises:
        UserError: shapes do not fit.

    Example:
        >>> same = torch.zeros(5, 3)
        >>> inclusion_loss(same, same, same, same, scale=10.0)  # log 2
        tensor(0.6931)
    """
    score = inclusion_score(mean_a, log_variance_a, mean_b, log_variance_b)
    return F.softplus(-scale * score).sum() / max(len(score), 1)


def information_bottleneck(mean: Tensor, log_variance: Tensor) -> Tensor:
    """How far the Gaussians are from a standard one: a price on being sure.

        KL(N(mu, e^l) || N(0, 1)) = 1/2 (mu^2 + exp l - l - 1),  the mean over samples and dimensions

    (Alemi et al. 2017, arXiv 1612.00410.) On unit means the first part is constant: only the variances are held.

    Args:
        mean: `(n, dim)`.
        log_variance: `(n, dim)`.

    Returns:
        Scalar, in float32 (float64 where an input is); zero, with a graph, where there is no row.

    Raises:
        UserError: shapes do not fit.

    Example:
        >>> information_bottleneck(torch.zeros(2, 3), torch.zeros(2, 3))
        tensor(0.)
    """
    mean, log_variance, _, _ = _wide(mean, log_variance, mean, log_variance)
    bounded = _bounded(log_variance)
    return (mean.square() + bounded.expm1() - bounded).sum() / (2 * max(mean.numel(), 1))


class _Dots(torch.autograd.Function):
    """`a @ b.T`, where autocast would take the digits that variances near exp(-10) need; in backward too."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with torch.autocast(a.device.type, enabled=False):
            return a @ b.T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        with torch.autocast(a.device.type, enabled=False):
            return grad @ b, grad.T @ a


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(*BORDERS)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def _bounded(log_variance: Tensor) -> Tensor:
    return _Bounded.apply(log_variance)  # type: ignore[no-any-return]


def _spread(log_variance: Tensor) -> Tensor:
    return _bounded(log_variance).exp().sum(1)


def _labels(logits: Tensor, targets: Tensor | None, groups_a: Tensor | None, groups_b: Tensor | None) -> Tensor:
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
        raise UserError(f"expected one group a row, got shapes {came}")
    return (groups_a[:, None] == groups_b).to(logits.dtype)


def _pseudo(logits: Tensor, labels: Tensor, *, soft: bool) -> Tensor:
    """In each row, the highest label among those that score no higher."""
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


def _wide(
    mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    for mean, log_variance in ((mean_a, log_variance_a), (mean_b, log_variance_b)):
        if mean.ndim != 2 or mean.shape != log_variance.shape:
            came = f"{tuple(mean.shape)} and {tuple(log_variance.shape)}"
            raise UserError(f"expected means and log-variances of one shape (rows, dim), got {came}")
    if mean_a.shape[1] != mean_b.shape[1]:
        raise UserError(f"expected both sides of one width, got {mean_a.shape[1]} and {mean_b.shape[1]}")
    given = (mean_a, log_variance_a, mean_b, log_variance_b)
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in given) else torch.float32
    return mean_a.to(dtype), log_variance_a.to(dtype), mean_b.to(dtype), log_variance_b.to(dtype)
