"""Farthest point sampling of batched clouds."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalities.pointcloud.geometry.selection import Selection, checked_clouds

CACHED_VALUES = 1 << 16
"""Points that are worked on at once on a CPU: their coordinates and distances stay in its cache."""


def farthest_point_sampling(
    points: Tensor, count: int, *, mask: Tensor | None = None, start: Tensor | int | None = None
) -> Selection:
    """Choose points one by one, each the farthest from those already chosen (Gonzalez 1985, Eldar et al. 1997).

    `i_1 = start`, `i_t = argmax_i min_{s < t} |x_i - x_{i_s}|^2`. Of equally far points the one of lowest index is
    taken. No point is chosen twice before all real points are chosen; what follows repeats a point, mask False.

    Args:
        points: Coordinates, `(batch, points, width)`; distances are computed in float32, of float64 in float64.
        count: Points to choose of each cloud.
        mask: True = real point, `(batch, points)`; others are never chosen. None = all are real.
        start: Index of the first point, one for all or `(batch,)`; it must be a real point. None = the point farthest
            from the centroid, so that the choice does not depend on the order of the points (ties apart).

    Returns:
        `(batch, count)` indices in the order of choice, and their mask. A cloud without a real point has mask False.

    Raises:
        ValueError: a shape, a type or the count is wrong.

    Example:
        >>> line = torch.tensor([[[0.0], [1.0], [2.0], [10.0]]])
        >>> farthest_point_sampling(line, 3).indices
        tensor([[3, 0, 2]])
    """
    values, real = checked_clouds(points, mask, "farthest_point_sampling")
    if count < 1:
        raise ValueError(f"farthest_point_sampling: expected a count of at least 1, got {count}")
    first = _first(values, real, start)
    if values.shape[0] == 0:
        chosen = first.new_zeros(0, count)
    elif values.device.type == "cpu" and not torch.compiler.is_exporting():
        # NumPy starts an operation in a fifth of PyTorch's time, and a cloud costs `5 count` operations.
        step = max(1, CACHED_VALUES // values.shape[1])
        blocks = zip(torch.split(values, step), torch.split(real, step), torch.split(first, step), strict=True)
        chosen = torch.from_numpy(np.concatenate([_on_cpu(*block, count) for block in blocks]))
    else:
        chosen = _on_device(values, real, first, count)
    return Selection(chosen, torch.arange(count, device=chosen.device) < real.sum(1, keepdim=True))


def _first(points: Tensor, mask: Tensor, start: Tensor | int | None) -> Tensor:
    if start is not None:
        first = torch.as_tensor(start, dtype=torch.int64, device=points.device).expand(points.shape[0])
        if ((first < 0) | (first >= points.shape[1])).any():
            raise ValueError(f"farthest_point_sampling: expected start in 0..{points.shape[1] - 1}")
        if (mask.any(1) & ~mask.gather(1, first[:, None])[:, 0]).any():
            raise ValueError("farthest_point_sampling: expected start to be a real point, got one that is masked")
        return first
    centroid = points.sum(1, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None]
    return (points - centroid).square().sum(2).masked_fill(~mask, -1.0).argmax(1)


def _on_cpu(points: Tensor, mask: Tensor, first: Tensor, count: int) -> NDArray[np.int64]:
    """Channels first and buffers in place: each coordinate is one contiguous run of memory."""
    channels = np.ascontiguousarray(points.numpy().transpose(2, 0, 1))
    distance = np.where(mask.numpy(), np.inf, -np.inf).astype(channels.dtype)
    squared, one = np.empty_like(distance), np.empty_like(distance)
    offset = np.arange(len(distance)) * distance.shape[1]
    flat = distance.reshape(-1)
    index, chosen = first.numpy().copy(), np.empty((count, len(distance)), np.int64)
    for step in range(count):
        chosen[step] = index
        at = offset + index
        for axis, channel in enumerate(channels):
            np.subtract(channel, channel.reshape(-1)[at, None], out=one)
            np.multiply(one, one, out=one if axis else squared)
            if axis:
                np.add(squared, one, out=squared)
        np.minimum(distance, squared, out=distance)
        flat[at] = -1.0  # below every distance of a point not yet chosen, above padding
        np.argmax(distance, axis=1, out=index)
    return np.ascontiguousarray(chosen.T)


def _on_device(points: Tensor, mask: Tensor, first: Tensor, count: int) -> Tensor:
    """The same in PyTorch, without a synchronisation in the loop."""
    channels = points.permute(2, 0, 1).contiguous()
    distance = torch.full_like(channels[0], torch.inf).masked_fill_(~mask, -torch.inf)
    one, index = torch.empty_like(channels), first[:, None].clone()
    chosen = torch.empty((count, points.shape[0]), dtype=torch.int64, device=points.device)
    for step in range(count):
        chosen[step] = index[:, 0]
        torch.sub(channels, channels.gather(2, index.expand(len(channels), -1, -1)), out=one)
        one.mul_(one)
        squared = one[0]
        for axis in range(1, len(one)):
            squared.add_(one[axis])
        torch.minimum(distance, squared, out=distance)
        distance.scatter_(1, index, -1.0)
        index = distance.argmax(1, keepdim=True)
    return chosen.T.contiguous()
