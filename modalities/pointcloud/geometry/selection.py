"""Points chosen from a batch of clouds: their indices, and which of them are real."""

from typing import NamedTuple

import torch
from torch import Tensor


class Selection(NamedTuple):
    """Points that were chosen from each cloud of a batch.

    Args:
        indices: Indices into the cloud's points, `(batch, ...)` int64; always in range, also where `mask` is False.
        mask: True = a real choice, False = repeated, because the cloud has too few points; the shape of `indices`.
    """

    indices: Tensor
    mask: Tensor


def take_points(values: Tensor, indices: Tensor) -> Tensor:
    """Gather the rows of each cloud by index; differentiable in `values`.

    Args:
        values: One row for each point, `(batch, points, width)`.
        indices: Indices of points, `(batch, ...)` int64.

    Returns:
        The chosen rows, `(batch, ..., width)`.

    Example:
        >>> take_points(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[2, 0]])).flatten()
        tensor([3., 1.])
    """
    flat = indices.reshape(indices.shape[0], -1, 1).expand(-1, -1, values.shape[2])
    return values.gather(1, flat).reshape(*indices.shape, values.shape[2])


def checked_clouds(points: Tensor, mask: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    """Points without gradient in at least single precision, 0 where masked, and their mask (None = all real).

    Raises:
        ValueError: the shapes are not `(batch, points, width)` and `(batch, points)`.
    """
    if points.ndim != 3 or points.shape[1] < 1 or points.shape[2] < 1 or not points.is_floating_point():
        raise ValueError(
            f"{name}: expected floating-point coordinates (batch, points, width) with at least one point, "
            f"got {points.dtype} {tuple(points.shape)}"
        )
    points = points.detach()
    points = points if points.dtype == torch.float64 else points.float()
    if mask is None:
        return points, torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    if mask.shape != points.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"{name}: expected a boolean mask of shape {tuple(points.shape[:2])}, got {mask.dtype} {tuple(mask.shape)}"
        )
    return points.masked_fill(~mask[:, :, None], 0.0), mask
