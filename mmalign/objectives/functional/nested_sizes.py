"""Nested embedding sizes (Matryoshka): the first dimensions of a vector as an embedding of their own."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError


def truncate_vectors(vectors: Tensor, size: int) -> Tensor:
    """The first `size` numbers of each vector, normalised to unit length.

        v_i = x_i[:size] / |x_i[:size]|

    (Kusupati et al. 2022, Matryoshka representation learning, arXiv 2205.13147.) A vector whose first numbers are all
    zero stays zero, with a finite gradient; the other numbers get no gradient.

    Args:
        vectors: `(n, dim)`.
        size: From 1 to `dim`; at `dim` the vectors are returned as they are, without a copy.

    Returns:
        `(n, size)`, in float32 (float64 where the vectors are).

    Raises:
        UserError: `size` is below 1 or above `dim`.

    Example:
        >>> truncate_vectors(torch.tensor([[1.0, 0.0, 1.0, 0.0]]) / 2**0.5, 2)
        tensor([[1., 0.]])
    """
    if not 1 <= size <= vectors.shape[1]:
        raise UserError(f"expected a size from 1 to {vectors.shape[1]}, that of the vectors, got {size}")
    if size == vectors.shape[1]:
        return vectors
    first = vectors[:, :size].to(torch.promote_types(vectors.dtype, torch.float32))
    return F.normalize(first, dim=1, eps=1e-8)
