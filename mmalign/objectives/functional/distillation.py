"""Distillation losses: the Gaussian of a bag of vectors, KL divergence of Gaussians, relations between samples."""

import math

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.matmul import dot_products
from mmalign.objectives.functional.computing.own_rows import warn_own_rows
from mmalign.objectives.functional.gaussians import bounded, wide

# Logit of a row with itself. Finite, so that a batch of one has a loss (0) rather than NaN.
_FAR = -1e30


def bag_gaussian(tokens: Tensor, mask: Tensor, floor: float = -18.4) -> tuple[Tensor, Tensor]:
    """Gaussian of a bag of vectors, for a teacher that embeds a sample as several frames, crops or views.

    Over the T real members x_t of a bag, in each dimension:

        mean         = 1/T sum_t x_t
        log_variance = log(1/(T - 1) sum_t (x_t - mean)^2 + exp(floor))

    (As for the teacher of EchoingECG, arXiv 2509.25791.) A bag of one member, or of equal ones, has the floor.

    Args:
        tokens: `(batch, length, dim)`. Padding is never read, NaN included.
        mask: `(batch, length)`, True = real.
        floor: Logarithm of the constant added to every variance; -18.4 adds 1e-8.

    Returns:
        `mean`, `log_variance`, `(batch, dim)`, in float32 (float64 where the tokens are). An empty bag has mean 0 and
        the floor, and no gradient.

    Raises:
        UserError: shapes do not fit, or (on the CPU) a real member holds NaN or infinity.

    Example:
        >>> bag = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> bag_gaussian(bag, torch.tensor([[True, True, False]]))  # variance 2
        (tensor([[2.]]), tensor([[0.6931]]))
        >>> bag_gaussian(bag, torch.tensor([[True, False, False]]))
        (tensor([[1.]]), tensor([[-18.4000]]))
    """
    if tokens.ndim != 3 or mask.shape != tokens.shape[:2] or mask.dtype != torch.bool:
        came = f"{tuple(tokens.shape)} with a mask of {tuple(mask.shape)}, {mask.dtype}"
        raise UserError(f"expected a bag (batch, length, dim) and a mask (batch, length) of booleans, got {came}")
    real = mask[:, :, None]
    members = torch.where(real, tokens.to(torch.promote_types(tokens.dtype, torch.float32)), 0.0)
    refuse_not_finite("bag_gaussian", members)
    count = real.sum(1)
    mean = members.sum(1) / count.clamp(min=1)
    away = torch.where(real, members - mean[:, None], 0.0)
    variance = away.square().sum(1) / (count - 1).clamp(min=1)
    return mean, (variance + math.exp(floor)).log()


def gaussian_kl(mean_p: Tensor, log_variance_p: Tensor, mean_q: Tensor, log_variance_q: Tensor) -> Tensor:
    """KL divergence of Gaussian q from Gaussian p for each row, as the mean over the dimensions.

        KL(p || q) / dim = mean_d 1/2 (l_q - l_p + exp(l_p - l_q) + (mu_p - mu_q)^2 exp(-l_q) - 1)

    (Kullback and Leibler 1951, for Gaussians with diagonal covariance.) The divergence itself is `dim` times as large;
    the mean does not depend on the width. l is the logarithm of the variance, clamped to [-20, 10] with the gradient of
    the bound.

    Args:
        mean_p: `(n, dim)`, of the teacher.
        log_variance_p: `(n, dim)`.
        mean_q: `(n, dim)`, of the student.
        log_variance_q: `(n, dim)`.

    Returns:
        `(n,)`, not negative, in float32 (float64 where an input is).

    Raises:
        UserError: shapes do not fit, or (on the CPU) got NaN or infinity.

    Example:
        >>> zero = torch.zeros(1, 3)
        >>> gaussian_kl(zero, zero, zero, zero), gaussian_kl(zero + 2, zero, zero, zero)
        (tensor([0.]), tensor([2.]))
    """
    if len(mean_p) != len(mean_q):
        raise UserError(f"expected as many rows of p as of q, got {len(mean_p)} and {len(mean_q)}")
    mu_p, l_p, mu_q, l_q = wide(mean_p, log_variance_p, mean_q, log_variance_q)
    refuse_not_finite("gaussian_kl", mu_p, l_p, mu_q, l_q)
    l_p, l_q = bounded(l_p), bounded(l_q)
    apart = l_p - l_q
    # expm1(x) - x is exp(x) - 1 - x without the loss of digits where the two variances are nearly equal.
    terms = torch.expm1(apart) - apart + (mu_p - mu_q).square() * (-l_q).exp()
    return terms.sum(1) / (2 * max(mu_p.shape[1], 1))


def relation_loss(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Relational distillation: cross-entropy of the student's similarities between samples to the teacher's.

    With `p_ij = softmax over j != i of b_i . b_j / temperature` and q_ij the same of a:

        loss = - 1/n sum_i sum_{j != i} p_ij log q_ij

    (Relational distillation, Park et al. 2019, arXiv 1904.05068, in the softmax form of Fang et al. 2021, SEED, arXiv
    2101.04731.) Its minimum is the entropy of p, not 0. The two widths may differ. The similarity matrix of a process's
    rows by all rows is stored, once for the student and once for the teacher.

    Args:
        a: `(n, dim)` of the student, usually unit vectors.
        b: `(n, width)` of the teacher; no gradient reaches it.
        temperature: Divides the dot products.

    Returns:
        Scalar, in float32 (float64 where an input is); zero, with a graph, where there is no other row.

    Raises:
        UserError: shapes do not fit, the temperature is not above 0, or (on the CPU) got NaN or infinity.

    Example:
        >>> relation_loss(torch.eye(5), torch.eye(5))  # four others, all as far: log 4
        tensor(1.3863)
    """
    warn_own_rows("relation_loss", "the objective distillation")
    loss, _ = relation_rows(a, a, b, b, slice(0, len(a)), temperature)
    return loss.sum() / max(len(a), 1)


def relation_rows(
    a: Tensor, all_a: Tensor, b: Tensor, all_b: Tensor, rows: slice, temperature: float
) -> tuple[Tensor, Tensor]:
    """`relation_loss` of each own row of a process, and the entropy of the teacher's distribution.

    Args:
        a: The student's own rows, `(own, dim)`.
        all_a: The student's rows of the global batch, `(n, dim)`.
        b: The teacher's own rows, `(own, width)`.
        all_b: The teacher's rows of the global batch, `(n, width)`.
        rows: Slice of the own rows among all rows.
        temperature: Divides the dot products.
    """
    fits = a.ndim == b.ndim == 2 and a.shape[1:] == all_a.shape[1:] and b.shape[1:] == all_b.shape[1:]
    if not fits or len(a) != len(b) or len(all_a) != len(all_b) or len(a) != rows.stop - rows.start:
        came = ", ".join(str(tuple(tensor.shape)) for tensor in (a, all_a, b, all_b))
        raise UserError(f"expected as many rows of the student as of the teacher, got shapes {came}")
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature: expected a number above 0, got {temperature}")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, all_a, b, all_b = (tensor.to(dtype) for tensor in (a, all_a, b.detach(), all_b.detach()))
    refuse_not_finite("relation_loss", a, all_a, b, all_b)
    itself = torch.arange(rows.start, rows.stop, device=a.device)[:, None] == torch.arange(len(all_a), device=a.device)
    student = torch.where(itself, _FAR, dot_products(a, all_a) / temperature).log_softmax(1)
    teacher = torch.where(itself, _FAR, dot_products(b, all_b) / temperature).log_softmax(1)
    weights = teacher.exp()
    return -(weights * student).sum(1), -(weights * teacher).sum(1)


def refuse_not_finite(what: str, *tensors: Tensor) -> None:
    """Raise if got NaN or infinity; on the CPU only, because other devices would have to synchronise."""
    if any(tensor.device.type == "cpu" and not bool(tensor.isfinite().all()) for tensor in tensors):
        raise UserError(f"{what} expected finite numbers, and got NaN or infinity")
