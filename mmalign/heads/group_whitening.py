"""Shuffled group whitening (WhitenedCSE): a batch's vectors are decorrelated within random groups of channels."""

from typing import Any

import torch
from torch import Tensor, nn

from mmalign import distributed
from mmalign.errors import UserError


class ShuffledGroupWhitening(nn.Module):
    """Whitens the vectors of the global batch within random groups of channels; the identity in use.

        pi = a random permutation of the channels, cut into groups of g channels; X one group of all rows
        C  = (X - m)^T (X - m) / n + e I,    m = the mean row,  e = ridge x mean variance of the group
        Y  = (X - m) C^(-1/2)                                                        pi is undone afterwards

    (Zhuo et al. 2023, WhitenedCSE, arXiv 2305.17746, its shuffled group whitening by ZCA.) Each call draws another
    permutation, so two views of a sample differ. Mean and covariance are those of the rows of all processes, and their
    gradient is exact; the released code treats the covariance as a constant of each process.

    Args:
        width: Number of channels.
        groups: Number of groups; must divide `width`. 1 = full whitening; `width` = standardisation of each channel.
        ridge: Added to the variances, relative to their mean: batches of fewer rows than g have directions without
            variance.

    Shape:
        `(rows, width)` -> `(rows, width)`.

    Example:
        >>> whitening = ShuffledGroupWhitening(6, 2)
        >>> vectors = torch.randn(100, 6) @ torch.randn(6, 6)
        >>> whitening(vectors).std(0, correction=0).round(decimals=3)
        tensor([1., 1., 1., 1., 1., 1.])
        >>> torch.equal(whitening.eval()(vectors), vectors)
        True
    """

    seed: Tensor
    draws: Tensor

    def __init__(self, width: int, groups: int, ridge: float = 1e-5) -> None:
        super().__init__()
        if groups < 1 or width % groups:
            raise UserError(f"group_whitening: expected a number of groups that divides {width}, got {groups}")
        self.groups, self.ridge = groups, ridge
        # The number of draws is saved, so that a resumed training continues with the next permutation.
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def forward(self, vectors: Tensor) -> Tensor:
        """Whiten in training; every process must call it, one without rows included."""
        if not self.training:
            return vectors
        order = torch.randperm(vectors.shape[1], generator=self._generator()).to(vectors.device)
        with torch.autocast(vectors.device.type, enabled=False):
            values = vectors.to(torch.promote_types(vectors.dtype, torch.float32))[:, order]
            whitened = self._whiten(values.unflatten(1, (self.groups, -1)))  # type: ignore[no-untyped-call]
            return whitened.flatten(1)[:, order.argsort()]

    def _whiten(self, values: Tensor) -> Tensor:
        count = distributed.all_reduce_sum(torch.tensor(len(values), device=values.device)).clamp(min=1)
        centred = values - _sum_over_processes(values.sum(0)) / count
        covariance = _sum_over_processes(torch.einsum("ngi,ngj->gij", centred, centred)) / count
        variance = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        ridge = (self.ridge * variance + 1e-12) * torch.eye(values.shape[2], dtype=values.dtype, device=values.device)
        return torch.einsum("ngi,gij->ngj", centred, inverse_square_root(covariance + ridge))

    def _generator(self) -> torch.Generator:
        self.draws += 1
        return torch.Generator().manual_seed(int(self.seed) + int(self.draws))

    def extra_repr(self) -> str:
        return f"groups={self.groups}, ridge={self.ridge}"


def inverse_square_root(matrices: Tensor) -> Tensor:
    """`A^(-1/2)` of symmetric positive definite matrices, with a gradient that is finite for equal eigenvalues.

    With `A = U diag(l) U^T`, the gradient is `U (K * (U^T G U)) U^T`, `K_ij = -1 / (r_i r_j (r_i + r_j))`, `r = sqrt l`
    (the Daleckii-Krein formula), which has no difference of eigenvalues in a denominator.

    Shape:
        `(..., size, size)` -> `(..., size, size)`.

    Example:
        >>> inverse_square_root(4 * torch.eye(2))
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])
    """
    return _InverseSquareRoot.apply(matrices)  # type: ignore[no-any-return]


class _InverseSquareRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrices)
        roots = values.clamp(min=torch.finfo(values.dtype).tiny).sqrt()
        ctx.save_for_backward(roots, vectors)
        inverse: Tensor = (vectors / roots[..., None, :]) @ vectors.mT
        return inverse

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        roots, vectors = ctx.saved_tensors
        rows, columns = roots[..., :, None], roots[..., None, :]
        inner = vectors.mT @ ((grad + grad.mT) / 2) @ vectors
        change: Tensor = vectors @ (-inner / (rows * columns * (rows + columns))) @ vectors.mT
        return change


def _sum_over_processes(partial: Tensor) -> Tensor:
    """The sum over processes, with the gradient that all processes' losses have."""
    return distributed.gather_rows(partial[None], [1] * distributed.world_size()).sum(0)
