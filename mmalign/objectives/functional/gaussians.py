"""Gaussians in the shared space: distance, inclusion and variance regularisation.

A sample is `N(mean, diag(exp(log_variance)))`; `log_variance` is the logarithm of the *variance* everywhere. It is
clamped to [-20, 10], so that no exponential overflows; the gradient outside is that of the bound, not zero, so that
training can bring the value back.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.matmul import dot_products

BORDERS = (-20.0, 10.0)


def closed_form_sampled_distance(
    mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor
) -> Tensor:
    """Expected squared distance between draws of two Gaussians, for all pairs.

        d_ij = || mu_i - mu_j ||^2 + sum_k (exp l_ik + exp l_jk)

    (Chun 2024, PCME++, arXiv 2305.18171.) It is not a metric: the distance of a Gaussian to itself is twice the sum of
    its variances. The variances enter as one sum per row and per column: no pair stores a vector.

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
    mean_a, log_variance_a, mean_b, log_variance_b = wide(mean_a, log_variance_a, mean_b, log_variance_b)
    dots = dot_products(mean_a, mean_b)
    squared = mean_a.square().sum(1)[:, None] + mean_b.square().sum(1) - 2 * dots
    return squared.clamp(min=0.0) + (spread(log_variance_a)[:, None] + spread(log_variance_b))


def inclusion_score(mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor) -> Tensor:
    """Inclusion score: positive where the Gaussian of row i of `a` lies inside that of row i of `b`.

    With x = v_a + 2 v_b and y = v_b + 2 v_a (v the variances, l their logarithms), summed over dimensions:

        log int p_a^2 p_b - log int p_a p_b^2
            = sum 1/2 (l_b - l_a) + 1/2 (log y - log x) + (mu_a - mu_b)^2 (v_b - v_a) / (x y)

    (Chun et al. 2025, ProLIP, arXiv 2410.18857; the two integrals in closed form.) Above zero, `a` is the narrower and
    `b` the more general. Exchanging a and b changes the sign; equal Gaussians score zero.

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
        raise UserError(f"expected as many rows of a as of b, got {len(mean_a)} and {len(mean_b)}")
    mean_a, log_variance_a, mean_b, log_variance_b = wide(mean_a, log_variance_a, mean_b, log_variance_b)
    l_a, l_b = bounded(log_variance_a), bounded(log_variance_b)
    v_a, v_b = l_a.exp(), l_b.exp()
    x, y = v_a + 2 * v_b, v_b + 2 * v_a
    width = (l_b - l_a + (y.log() - x.log())) / 2
    return (width + (mean_a - mean_b).square() * ((v_b - v_a) / (x * y))).sum(1)


def inclusion_loss(
    mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor, *, scale: float
) -> Tensor:
    """Inclusion loss, with row i of `a` inside row i of `b`: `mean of - log sigmoid(scale inclusion_score)`.

    The arguments are those of `inclusion_score`. The published scales (1000, and 10 for long texts) belong to a score
    whose log-variance coefficients are twice those of the integrals: they do not apply here.

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
    """Variational information bottleneck: KL divergence of the Gaussians from a standard one, against small variances.

        KL(N(mu, e^l) || N(0, 1)) = 1/2 (mu^2 + exp l - l - 1),  the mean over samples and dimensions

    (Alemi et al. 2017, arXiv 1612.00410.) For unit means the first term is constant: it regularises only the variances.

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
    return variance_price(mean, log_variance).sum() / max(len(mean), 1)


def variance_price(mean: Tensor, log_variance: Tensor) -> Tensor:
    """`information_bottleneck` of each sample, not averaged: `(n, dim)` twice -> `(n,)`."""
    mean, log_variance, _, _ = wide(mean, log_variance, mean, log_variance)
    near = bounded(log_variance)
    return (mean.square() + near.expm1() - near).sum(1) / (2 * max(mean.shape[1], 1))


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(*BORDERS)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def bounded(log_variance: Tensor) -> Tensor:
    """Clamp to the bounds, with the gradient of the identity."""
    return _Bounded.apply(log_variance)  # type: ignore[no-any-return]


def spread(log_variance: Tensor) -> Tensor:
    """The sum of the variances of each row."""
    return bounded(log_variance).exp().sum(1)


def wide(
    mean_a: Tensor, log_variance_a: Tensor, mean_b: Tensor, log_variance_b: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The inputs in float32 or higher precision, shapes checked."""
    for mean, log_variance in ((mean_a, log_variance_a), (mean_b, log_variance_b)):
        if mean.ndim != 2 or mean.shape != log_variance.shape:
            came = f"{tuple(mean.shape)} and {tuple(log_variance.shape)}"
            raise UserError(f"expected means and log-variances of one shape (rows, dim), got {came}")
    if mean_a.shape[1] != mean_b.shape[1]:
        raise UserError(f"expected a and b of one width, got {mean_a.shape[1]} and {mean_b.shape[1]}")
    tensors = (mean_a, log_variance_a, mean_b, log_variance_b)
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return mean_a.to(dtype), log_variance_a.to(dtype), mean_b.to(dtype), log_variance_b.to(dtype)
