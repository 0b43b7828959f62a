"""Losses of masked pretraining: reconstruction of masked tokens, and agreement of two views where both are masked."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional.distillation import refuse_not_finite


def masked_error(reconstructed: Tensor, original: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the masked tokens of each sample.

        error_i = mean over masked tokens t of  mean over d of (reconstructed_itd - original_itd)^2

    (Masked autoencoders, He et al. 2022, arXiv 2111.06377.)

    Args:
        reconstructed: Predicted values, `(n, tokens, values)`; those of unmasked tokens are not read.
        original: True values, of the same shape.
        mask: True = masked, `(n, tokens)`.

    Returns:
        `(n,)`, in float32 (float64 where an input is); 0 for a sample without masked tokens.

    Raises:
        UserError: inconsistent shapes, or (on the CPU) NaN or infinity.

    Example:
        >>> masked_error(torch.tensor([[[2.0], [9.0]]]), torch.zeros(1, 2, 1), torch.tensor([[True, False]]))
        tensor([4.])
    """
    predicted, target = _checked("masked_error", reconstructed, original, mask)
    return (predicted - target).square().sum((1, 2)) / (mask.sum(1).clamp(min=1) * max(predicted.shape[2], 1))


def masked_chamfer(reconstructed: Tensor, original: Tensor, mask: Tensor, coordinates: int = 3) -> Tensor:
    r"""Chamfer distance of the masked tokens of each sample, where a token is a set of points.

    .. math:: d(P, Q) = \frac1{|P|} \sum_{p \in P} \min_{q \in Q} \|p - q\|^2 +
              \frac1{|Q|} \sum_{q \in Q} \min_{p \in P} \|p - q\|^2

    averaged over the masked tokens (Point-MAE, arXiv 2203.06604, equation 4; not halved). Unlike the mean squared
    error, it does not depend on the order of the points.

    Args:
        reconstructed: Predicted points, `(n, tokens, points * coordinates)`; those of unmasked tokens are not read.
        original: True points, of the same shape.
        mask: True = masked, `(n, tokens)`.
        coordinates: Number of coordinates of a point.

    Returns:
        `(n,)`, in float32 (float64 where an input is); 0 for a sample without masked tokens.

    Raises:
        UserError: inconsistent shapes, or (on the CPU) NaN or infinity.

    Example:
        >>> predicted = torch.zeros(1, 1, 6)
        >>> target = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0, 2.0]]])
        >>> masked_chamfer(predicted, target, torch.ones(1, 1, dtype=torch.bool))
        tensor([3.5000])
    """
    if coordinates < 1 or reconstructed.shape[-1] % coordinates:
        raise UserError(
            f"masked_chamfer: expected tokens of whole points of {coordinates} coordinates, "
            f"got {reconstructed.shape[-1]} values; set distance mse, or another number of coordinates"
        )
    predicted, target = _checked("masked_chamfer", reconstructed, original, mask)
    # Only masked tokens: their sets are small, so that all distances of a set are computed.
    first, second = (
        values[mask].view(-1, predicted.shape[2] // coordinates, coordinates) for values in (predicted, target)
    )
    distances = (first[:, :, None] - second[:, None]).square().sum(3)  # (masked, points, points)
    error: Tensor = distances.amin(2).mean(1) + distances.amin(1).mean(1)
    owner = torch.arange(len(mask), device=mask.device)[:, None].expand_as(mask)[mask]
    return error.new_zeros(len(mask)).index_add(0, owner, error) / mask.sum(1).clamp(min=1)


def comasked_distance(a: Tensor, b: Tensor, mask_a: Tensor, mask_b: Tensor) -> Tensor:
    """Mean cosine distance of two views' features of the same token, over the tokens that are masked in both.

        loss_i = mean over t with mask_a_it and mask_b_it of  1 - cos(a_it, b_it)

    (Point-CMAE, Ren et al. 2024, arXiv 2407.05862, as its text defines it: each token with itself. The released code
    compares each with every token of the other view.)

    Args:
        a: Decoder features of the first view, `(n, tokens, width)`.
        b: Decoder features of the second view, of the same shape.
        mask_a: True = masked in the first view, `(n, tokens)`.
        mask_b: True = masked in the second view, `(n, tokens)`.

    Returns:
        `(n,)`, from 0 to 2, in float32 (float64 where an input is); 0 where no token is masked in both.

    Raises:
        UserError: inconsistent shapes, or (on the CPU) NaN or infinity.

    Example:
        >>> one = torch.eye(2)[None]
        >>> comasked_distance(one, one.flip(1), torch.tensor([[True, True]]), torch.tensor([[True, False]]))
        tensor([1.])
    """
    both = mask_a & mask_b
    first, second = _checked("comasked_distance", a, b, both)
    return ((1 - F.cosine_similarity(first, second, dim=2)) * both).sum(1) / both.sum(1).clamp(min=1)


def _checked(name: str, a: Tensor, b: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one type of at least float32, 0 where the mask is False."""
    if a.ndim != 3 or a.shape != b.shape or mask.shape != a.shape[:2] or mask.dtype != torch.bool:
        raise UserError(
            f"{name}: expected two tensors (n, tokens, values) and a mask (n, tokens) of booleans, got "
            f"{tuple(a.shape)}, {tuple(b.shape)} and {tuple(mask.shape)} of {mask.dtype}"
        )
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    unpadded = [torch.where(mask[:, :, None], values.to(dtype), 0.0) for values in (a, b)]
    refuse_not_finite(name, *unpadded)
    return unpadded[0], unpadded[1]
