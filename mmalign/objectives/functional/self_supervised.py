"""Self-supervised losses of one tower: view prediction (SimSiam) and a variance hinge (VICReg)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional.distillation import refuse_not_finite

TINY = 1e-10
"""Added to a variance under its root: equal vectors keep a finite gradient."""


def view_rows(a: Tensor, b: Tensor, predicted_a: Tensor, predicted_b: Tensor) -> Tensor:
    """Prediction loss between two views, for each row.

        loss_i = - 1/2 (cos(predicted_a_i, b_i) + cos(predicted_b_i, a_i))

    (SimSiam, Chen and He 2021, arXiv 2011.10566; the instance term of TimeDRL, arXiv 2312.04142.) The targets
    `a` and `b` get no gradient: with one, the vectors would collapse.

    Args:
        a: First views, `(n, dim)`.
        b: Second views, `(n, dim)`.
        predicted_a: Output of the predictor for `a`, `(n, dim)`.
        predicted_b: Output of the predictor for `b`, `(n, dim)`.

    Returns:
        `(n,)`, from -1 to 1, in float32 (float64 where an input is).

    Raises:
        UserError: shapes do not fit, or (on the CPU) got NaN or infinity.

    Example:
        >>> one, other = torch.eye(2), torch.eye(2).flip(0)
        >>> view_rows(one, one, one, one), view_rows(one, one, other, other)
        (tensor([-1., -1.]), tensor([-0., -0.]))
    """
    tensors = (a, b, predicted_a, predicted_b)
    if a.ndim != 2 or any(tensor.shape != a.shape for tensor in tensors):
        came = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise UserError(f"expected four tensors (n, dim) of one shape, got {came}")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    a, b, predicted_a, predicted_b = (tensor.to(dtype) for tensor in (a.detach(), b.detach(), predicted_a, predicted_b))
    refuse_not_finite("view_rows", a, b, predicted_a, predicted_b)
    return -(F.cosine_similarity(predicted_a, b) + F.cosine_similarity(predicted_b, a)) / 2


def feature_std(vectors: Tensor) -> Tensor:
    """Standard deviation of unit vectors in each dimension, relative to the uniform distribution on the sphere.

        std_d = sqrt(dim) * std over i of x_id

    (The monitor of SimSiam, arXiv 2011.10566, figure 2.) The mean over d is 1 where vectors fill the sphere and 0 where
    all are equal; below 0.5 they are collapsing.

    Args:
        vectors: `(n, dim)`, of length one.

    Returns:
        `(dim,)`, with a finite gradient where vectors are equal, in float32 (float64 where they are).

    Example:
        >>> feature_std(torch.eye(2)).round(decimals=4), feature_std(torch.eye(2)[[0, 0, 0]]).round(decimals=4)
        (tensor([0.7071, 0.7071]), tensor([0., 0.]))
    """
    values = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    variance = values.var(0, correction=0) if len(values) else values.sum(0)
    return torch.sqrt(values.shape[1] * variance + TINY)


def variance_hinge(vectors: Tensor) -> Tensor:
    """Variance hinge against collapse: `mean over d of max(0, 1 - std_d)`.

    (The variance term of VICReg, Bardes et al. 2022, arXiv 2105.04906, for unit vectors.)

    Args:
        vectors: `(n, dim)`, of length one; of all processes.

    Example:
        >>> variance_hinge(torch.eye(2)[[0, 0, 0]]).round(decimals=4)
        tensor(1.)
    """
    return (1 - feature_std(vectors)).clamp(min=0).mean()
