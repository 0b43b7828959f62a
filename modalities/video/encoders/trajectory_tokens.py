"""From the rows of a trajectory, one for each frame, to its token."""

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from modalities.video.encoders.codes import FREQUENCIES, coordinate_code, time_code
from modalities.video.encoders.resampler import Resampler
from modalities.video.encoders.segments import BOXES, Rows


class TrajectoryTokens(nn.Module):
    """Token = appearance + position: two resamplers over the frames in which a trajectory is present (TrajViT).

    Rows carry a sinusoidal code of their time in seconds (TrajViT: rotary, by index). Coordinates have the same
    frequencies, 2^0 pi to 2^8 pi each.

    Args:
        width: Size of a token; even.
        heads: Attention heads of a resampler; must divide `width`.
        depth: Layers of a resampler.
        place: centroid or box, as the rows' coordinates.
        frequencies: Number of frequencies of each coordinate.
        velocity: Also give each row the change of its coordinates per second. Not in TrajViT: without it, direction is
            known from the attention over positions and times alone.

    Shape:
        `Rows`, times `(batch, time)` in seconds -> `(trajectories, width)`.

    Raises:
        UserError: an argument does not fit.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        depth: int,
        place: str = "centroid",
        frequencies: int = FREQUENCIES,
        velocity: bool = True,
    ) -> None:
        super().__init__()
        if place not in BOXES:
            raise UserError(f"video: place must be one of {', '.join(BOXES)}, got {place!r}")
        if not 1 <= frequencies <= 16:
            raise UserError(f"video: frequencies must be in 1..16, got {frequencies}")
        self.width, self.frequencies = width, frequencies
        coordinates = 2 if place == "centroid" else 4
        self.times = nn.Linear(width, width)
        self.position = nn.Linear(coordinates * 2 * frequencies, width)
        self.velocity = nn.Linear(coordinates, width, bias=False) if velocity else None
        if self.velocity is not None:
            nn.init.normal_(self.velocity.weight)
        self.appearances = Resampler(width, depth=depth, heads=heads)
        self.positions = Resampler(width, depth=depth, heads=heads)

    def forward(self, rows: Rows, times: Tensor) -> Tensor:
        """One token for each trajectory."""
        dtype = rows.values.dtype
        when = self.times(time_code(times, self.width).to(dtype))[rows.clips]  # (trajectories, time, width)
        where = self.position(coordinate_code(rows.coordinates, self.frequencies).to(dtype))
        if self.velocity is not None:
            where = where + self.velocity(velocities(rows, times[rows.clips]).to(dtype))
        appearance = self.appearances(rows.values + when, rows.mask, rows.weights)
        return appearance + self.positions(where + when, rows.mask, rows.weights)  # type: ignore[no-any-return]


def velocities(rows: Rows, seconds: Tensor) -> Tensor:
    """Change of each row's coordinates per second since the frame before; 0 where it is absent in one of the two.

    Args:
        rows: The trajectories.
        seconds: Time of each row, `(trajectories, time)`.

    Returns:
        `(trajectories, time, coordinates)`, in frame widths and heights per second.

    Example:
        >>> coordinates = torch.tensor([[[0.1, 0.0], [0.3, 0.0], [0.4, 0.5]]])
        >>> rows = Rows(coordinates, coordinates, torch.tensor([[True, True, False]]), torch.ones(1, 1) > 0)
        >>> velocities(rows, torch.tensor([[0.0, 0.5, 1.0]]))
        tensor([[[0.0000, 0.0000],
                 [0.4000, 0.0000],
                 [0.0000, 0.0000]]])
    """
    change = rows.coordinates.diff(dim=1) / seconds.diff(dim=1).clamp(min=1e-3)[..., None].to(rows.coordinates.dtype)
    both = rows.mask[:, 1:] & rows.mask[:, :-1]
    return torch.nn.functional.pad(change.masked_fill(~both[..., None], 0.0), (0, 0, 1, 0))
