"""Statistics of how many codes of a codebook are in use."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.own_rows import warn_own_rows


class CodeStatistics(NamedTuple):
    """Statistics of code usage of a batch; scalars."""

    live: Tensor
    perplexity: Tensor
    support: Tensor


def code_statistics(weights: Tensor, *, threshold: float = 0.0) -> CodeStatistics:
    """Statistics of code usage: live codes, perplexity and support.

        live       = fraction of the codes with weight above the threshold in some sample
        perplexity = exp(- sum_k u_k log u_k),  u = the mean of the samples' weights: 1 .. codes
        support    = mean over samples of the number of codes above the threshold

    Args:
        weights: `(batch, codes)` from `ground`. Rows of zeros (samples without a token) are left out.
        threshold: Weight above which a code counts as used. With softmax no weight is zero: use 1 / codes.

    Raises:
        UserError: `weights` is not a matrix.

    Example:
        >>> code_statistics(torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
        CodeStatistics(live=tensor(0.5000), perplexity=tensor(1.7548), support=tensor(1.5000))
    """
    warn_own_rows("code_statistics", "the objective fdt")
    return statistics_of(*code_sums(weights, threshold))


@torch.no_grad()
def code_sums(weights: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """What `statistics_of` needs of some samples; the sums over processes are those of all samples.

    Args:
        weights: `(batch, codes)`.
        threshold: Weight above which a code counts as used.

    Returns:
        Sum of the weights of each code, `(codes,)`; number of samples that use each code and, last, of samples that
        have weights, `(codes + 1,)` integers.

    Raises:
        UserError: `weights` is not a matrix.
    """
    if weights.ndim != 2:
        raise UserError(f"expected code weights of shape (batch, codes), got {tuple(weights.shape)}")
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    samples = (weights > 0).any(1).sum()
    return weights.sum(0), torch.cat([(weights > threshold).sum(0), samples[None]])


def statistics_of(sums: Tensor, counts: Tensor) -> CodeStatistics:
    """`code_statistics` from the sums of `code_sums`."""
    used, samples = counts[:-1], counts[-1].clamp(min=1)
    usage = sums / samples
    return CodeStatistics(
        live=(used > 0).sum() / max(len(used), 1),
        perplexity=(-torch.xlogy(usage, usage).sum()).exp(),
        support=used.sum() / samples,
    )
