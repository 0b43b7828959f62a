"""From the rows of a trajectory, one for each frame, to its token."""

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

    Shape:
        `Rows`, times `(batch, time)` in seconds -> `(trajectories, width)`.

    Raises:
        UserError: an argument does not fit.
    """

    def __init__(
        self, width: int, *, heads: int, depth: int, place: str = "centroid", frequencies: int = FREQUENCIES
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
        self.appearances = Resampler(width, depth=depth, heads=heads)
        self.positions = Resampler(width, depth=depth, heads=heads)

    def forward(self, rows: Rows, times: Tensor) -> Tensor:
        """One token for each trajectory."""
        dtype = rows.values.dtype
        when = self.times(time_code(times, self.width).to(dtype))[rows.clips]  # (trajectories, time, width)
        where = self.position(coordinate_code(rows.coordinates, self.frequencies).to(dtype))
        appearance = self.appearances(rows.values + when, rows.mask, rows.weights)
        return appearance + self.positions(where + when, rows.mask, rows.weights)  # type: ignore[no-any-return]
