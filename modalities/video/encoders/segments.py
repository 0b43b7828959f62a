"""Means over the segments of each frame: one row for each trajectory in each frame."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

BOXES = ("centroid", "box")
"""Place of a segment: its centroid (x, y), or its box (left, top, right, bottom)."""


@dataclass(frozen=True)
class Rows:
    """The trajectories of a batch, those of the first clip first; none of them is padding.

    Args:
        values: Mean of the features of its cells in each frame, 0 where absent, `(trajectories, time, width)`.
        coordinates: Place of its segment in 0..1, `(trajectories, time, 2 or 4)`, 0 where absent.
        mask: True = present in the frame, `(trajectories, time)`.
        present: Which trajectories of each clip there are, `(batch, largest number)`; in order, they are the rows.
        weights: Weight of each row relative to the largest of its trajectory, `(trajectories, time)`; None = 1.
    """

    values: Tensor
    coordinates: Tensor
    mask: Tensor
    present: Tensor
    weights: Tensor | None = None

    @property
    def clips(self) -> Tensor:
        """Index in the batch of each trajectory's clip, `(trajectories,)`."""
        return self.present.nonzero()[:, 0]

    def padded(self, tokens: Tensor) -> Tensor:
        """One vector of each trajectory, `(trajectories, width)`, as `(batch, largest number, width)`, padded by 0."""
        return tokens.new_zeros(*self.present.shape, tokens.shape[1]).masked_scatter(self.present[..., None], tokens)


def segment_rows(windows: Iterable[Tensor], segments: Tensor, mask: Tensor, *, place: str = "centroid") -> Rows:
    r"""Masked average pooling of each segment by scatter (TrajViT, arXiv 2505.23617), in memory of a window's cells.

    .. math:: r_{mt} = \frac{1}{|S_{mt}|} \sum_{p \in S_{mt}} F_{tp}

    Args:
        windows: Features of the cells of the real frames, in the order of the mask, as one or several tensors of
            consecutive frames, `(frames, height, width, channels)`.
        segments: Trajectory index of each cell, -1 = none, `(batch, time, height, width)`.
        mask: True = real frame, `(batch, time)`.
        place: centroid or box.

    Example:
        >>> features = torch.tensor([[[[1.0], [3.0]], [[5.0], [7.0]]]])  # one frame of 2 x 2 cells
        >>> rows = segment_rows([features], torch.tensor([[[[0, 0], [-1, 2]]]]), torch.ones(1, 1, dtype=torch.bool))
        >>> rows.values.flatten().tolist(), rows.coordinates.flatten().tolist(), rows.present.tolist()
        ([2.0, 7.0], [0.5, 0.25, 0.75, 0.75], [[True, False, True]])
    """
    batch, time, height, width = segments.shape
    clip, frame = mask.nonzero(as_tuple=True)  # of each real frame
    real = segments[clip, frame]
    count = max(int(real.max()) + 1, 1) if real.numel() else 1
    inside = real >= 0
    trajectory = clip[:, None, None] * count + real.clamp(min=0)
    present = torch.zeros(batch * count, dtype=torch.bool, device=segments.device)
    present[trajectory[inside]] = True
    total = int(present.sum()) * time
    # Cells of no trajectory go to an additional last row: cheaper than to select the others.
    row = ((present.cumsum(0) - 1)[trajectory] * time + frame[:, None, None]).where(inside, total).flatten()
    sizes = torch.bincount(row, minlength=total + 1)[:total]
    values = _sums(windows, row, total) / sizes.clamp(min=1)[:, None]
    centres = cell_centres(height, width, real.device).expand(len(real), -1, -1, -1).reshape(-1, 2)
    if place == "centroid":
        sums = torch.zeros(total + 1, 2, device=real.device).index_add(0, row, centres)[:total]
        coordinates = sums / sizes.clamp(min=1)[:, None]
    else:
        half = centres.new_tensor([0.5 / width, 0.5 / height])
        index, empty = row[:, None].expand(-1, 2), torch.zeros(total + 1, 2, device=real.device)
        low = empty.scatter_reduce(0, index, centres - half, "amin", include_self=False)
        high = empty.scatter_reduce(0, index, centres + half, "amax", include_self=False)
        coordinates = torch.cat([low, high], dim=1)[:total]
    return Rows(
        torch.unflatten(values, 0, (-1, time)),
        torch.unflatten(coordinates, 0, (-1, time)),
        torch.unflatten(sizes > 0, 0, (-1, time)),
        present.view(batch, count),
    )


def _sums(windows: Iterable[Tensor], row: Tensor, total: int) -> Tensor:
    """Sum of the features of the cells of each row, at least in float32; `row (cells,)`."""
    sums: Tensor | None = None
    first = 0
    for features in windows:
        cells = features.flatten(0, 2)
        cells = cells.to(torch.promote_types(cells.dtype, torch.float32))
        sums = cells.new_zeros(total + 1, cells.shape[1]) if sums is None else sums
        sums = sums.index_add(0, row[first : first + len(cells)], cells)
        first += len(cells)
    assert sums is not None
    return sums[:total]


def cell_centres(height: int, width: int, device: torch.device) -> Tensor:
    """X and y of the centre of each cell in 0..1, `(height, width, 2)`."""
    y, x = ((torch.arange(count, device=device) + 0.5) / count for count in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)
