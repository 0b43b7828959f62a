"""Sinusoidal codes of times and of coordinates."""

import math

import torch
from torch import Tensor

PERIODS = (0.25, 1024.0)
"""Shortest and longest period of a time code, in seconds."""

FREQUENCIES = 9
"""Frequencies of each coordinate: pi, 2 pi, 4 pi, ... 256 pi."""


def time_code(times: Tensor, width: int) -> Tensor:
    """Sinusoidal code of times in seconds, so that it does not depend on the number or the rate of the frames.

    Args:
        times: Seconds from the start of the clip, of any shape.
        width: Size of the code, even; half of it sines, half cosines, with periods in geometric steps of `PERIODS`.

    Shape:
        `(...)` -> `(..., width)`.

    Example:
        >>> time_code(torch.zeros(2), 4)
        tensor([[0., 0., 1., 1.],
                [0., 0., 1., 1.]])
    """
    steps = torch.linspace(0, 1, width // 2, device=times.device)
    periods = PERIODS[0] * (PERIODS[1] / PERIODS[0]) ** steps
    angles = 2 * math.pi * times[..., None].float() / periods
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def coordinate_code(coordinates: Tensor, frequencies: int = FREQUENCIES) -> Tensor:
    """Sinusoidal code with the same frequencies for each coordinate: 2^0 pi, 2^1 pi, ...

    With one row of falling frequencies over all coordinates, as in the released TrajViT, the second one hardly changes
    the code.

    Args:
        coordinates: In 0..1, `(..., coordinates)`.
        frequencies: Their number.

    Shape:
        `(..., coordinates)` -> `(..., coordinates * 2 * frequencies)`, coordinate by coordinate.

    Example:
        >>> code = coordinate_code(torch.tensor([0.5, 0.0]), 1)
        >>> code.round(decimals=4)
        tensor([1., -0., 0., 1.])
    """
    scales = math.pi * 2.0 ** torch.arange(frequencies, device=coordinates.device)
    angles = coordinates[..., None].float() * scales
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
