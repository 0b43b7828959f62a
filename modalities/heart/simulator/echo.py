"""The echo of a simulated heart: a contracting ellipsoid, sectioned along its long axis."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from modalities.echo.sample import Echo
from modalities.heart.simulator.heart import Heart, beat_times

RATE, SECONDS, SIDE = 25.0, 2.0, 64

SEMI_AXES = (9.5, 15.0)
"""Semi-axes of a normal cavity at end-diastole in pixels: short and long."""

WALL = 3.3
"""Thickness of a normal wall at end-diastole, pixels."""

CENTRE, ATRIUM = (32.0, 26.0), 24.5
"""Centre of the ventricle (x, y), and the distance of the atrium's centre below it."""

PROBE, HALF_ANGLE, DEPTH = (32.0, 0.0), 0.85, 62.0
"""Tip (x, y), half opening in radians and depth of the sector."""

SPECKLE = 2
"""Points of the texture per pixel."""

Values = NDArray[np.float32]


def contraction(heart: Heart, time: NDArray[np.float64], beats: NDArray[np.float64]) -> NDArray[np.float64]:
    """Contraction over time: 0 at end-diastole, 1 at end-systole.

    Ejection is half a cosine of 0.34 s at one beat a second; filling is an early part (80 %) and the atrium's, which
    ends at the next beat, or before it where conduction from the atrium is slow.

    Args:
        heart: The heart.
        time: Times in seconds.
        beats: Times of the R waves, ascending, covering `time`.
    """
    beat = np.searchsorted(beats, time, side="right") - 1
    since, interval = time - beats[beat], np.diff(beats)[beat]
    root = np.sqrt(interval)
    systole, early, kick = 0.34 * root, 0.22 * root, 0.14 * root
    lead = 0.12 if heart.conduction == "first-degree AV block" else 0.0
    rises = _step(since / systole)
    filled = 0.8 * _step((since - systole) / early)
    filled += 0.2 * _step((since - np.maximum(interval - lead - kick, systole)) / kick)
    return rises - filled


def semi_axes(heart: Heart, contracted: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Short and long semi-axis in pixels. The volume `4/3 pi a^2 b` is `1 - EF * contracted` of that at end-diastole.

    A fifth of the shortening is along: `a ~ V^0.4`, `b ~ V^0.2`.

    Example:
        >>> from modalities.heart.simulator.heart import draw_heart
        >>> heart = draw_heart(0, 0)
        >>> a, b = semi_axes(heart, np.array([0.0, 1.0]))
        >>> bool(np.isclose(100 * (1 - (a**2 * b)[1] / (a**2 * b)[0]), heart.ejection_fraction))
        True
    """
    volume = 1 - heart.ejection_fraction / 100 * contracted
    return heart.size * SEMI_AXES[0] * volume**0.4, heart.size * SEMI_AXES[1] * volume**0.2


def echo_of(heart: Heart) -> Echo:
    """Generate two seconds of 64 x 64 pixels at 25 Hz, deterministic.

    Bright wall of constant area (it thickens as the cavity shrinks), dark cavity and atrium, grey surroundings, in a
    sector. Speckle is a texture that moves with the tissue. In bundle branch block the ventricle rocks to the side
    early in systole.

    Example:
        >>> from modalities.heart.simulator.heart import draw_heart
        >>> echo_of(draw_heart(0, 0)).frames.shape
        (50, 64, 64)
    """
    rng = heart.stream("echo")
    time = np.arange(round(RATE * SECONDS)) / RATE
    beats = beat_times(heart.rate, SECONDS, rng)
    contracted = contraction(heart, time, beats)
    across, along = semi_axes(heart, contracted)
    seen, x, y = _sector()
    shift = rng.normal(0, 0.8, 2)
    rocking = _rocking(heart, time, beats)
    x, y = x - np.float32(CENTRE[0] + shift[0]) - rocking[:, None], y - np.float32(CENTRE[1] + shift[1])
    cos, sin = np.float32(np.cos(heart.angle)), np.float32(np.sin(heart.angle))
    u, v = cos * x + sin * y, cos * y - sin * x
    a, b = (axis.astype(np.float32)[:, None] for axis in (across, along))
    radius = np.sqrt((u / a) ** 2 + (v / b) ** 2) + np.float32(1e-6)  # 1 at the inner surface of the wall
    outer = 1 + _thickness(heart, across, along).astype(np.float32)[:, None] / np.sqrt(a * b)
    soft = np.sqrt(a * b)  # borders are one pixel wide
    wall = np.clip(0.5 + (radius - 1) * soft, 0, 1) * np.clip(0.5 + (outer - radius) * soft, 0, 1)
    inside = np.clip(0.5 + (1 - radius) * soft, 0, 1)
    fill = np.float32(heart.size) * (5.5 + 1.5 * contracted).astype(np.float32)[:, None]
    atrium = np.clip(0.5 + fill - np.sqrt(u**2 + (v - np.float32(ATRIUM * heart.size)) ** 2), 0, 1)
    tissue = 45 * (1 - inside) * (1 - atrium) * (1 - wall) + 150 * wall
    bright = tissue * _speckle(u, v, radius, outer, a, b, rng) + 6
    bright = bright * np.float32(np.exp(rng.normal(0, 0.1))) + rng.standard_normal(bright.shape, np.float32) * 4
    frames = np.zeros((len(time), SIDE, SIDE), np.uint8)
    frames[:, seen] = np.clip(bright, 1, 255)
    return Echo(frames, RATE)


def _step(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 - np.cos(np.pi * np.clip(x, 0, 1))) / 2


def _rocking(heart: Heart, time: NDArray[np.float64], beats: NDArray[np.float64]) -> Values:
    """Sideways motion in pixels, `(time,)`."""
    if heart.conduction != "left bundle branch block":
        return np.zeros(len(time), np.float32)
    since = time - beats[np.searchsorted(beats, time, side="right") - 1]
    return (1.8 * np.exp(-(((since - 0.08) / 0.05) ** 2) / 2)).astype(np.float32)


def _thickness(heart: Heart, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wall thickness at constant wall area: `(a + w)(b + w) - ab` equals that of end-diastole."""
    first, second, wall = (heart.size * axis for axis in (*SEMI_AXES, WALL))
    area = (first + wall) * (second + wall) - first * second
    return np.asarray((np.sqrt((a + b) ** 2 + 4 * area) - (a + b)) / 2)


def _speckle(
    u: Values, v: Values, radius: Values, outer: Values, a: Values, b: Values, rng: np.random.Generator
) -> Values:
    """Rayleigh speckle with a grain of 1.5 pixels, fixed to the tissue; mean 1."""
    from scipy import ndimage

    size = 2 * SIDE * SPECKLE
    real, imaginary = ndimage.uniform_filter(rng.standard_normal((2, size, size), np.float32), (0, 3, 3), mode="wrap")
    texture = np.hypot(real, imaginary)
    texture /= texture.mean()
    # Relative depth in the wall, 0 to 1, or distance beyond it: constant for a piece of tissue.
    depth = (radius - 1) / (outer - 1)
    still = 1 + np.float32(WALL / np.sqrt(SEMI_AXES[0] * SEMI_AXES[1])) * depth
    beyond = np.maximum(depth - 1, 0)
    share = 1 / (1 + beyond)  # far from the heart nothing moves
    reach = share * still / radius
    rows = v * ((1 - share) + reach * np.float32(SEMI_AXES[1]) / b)
    columns = u * ((1 - share) + reach * np.float32(SEMI_AXES[0]) / a)
    # The texture repeats beyond its ends; its size is a power of two.
    rows, columns = ((SPECKLE * axis + size / 2).astype(np.int32) & (size - 1) for axis in (rows, columns))
    return np.asarray(texture.reshape(-1)[rows * size + columns])


@cache
def _sector() -> tuple[NDArray[np.bool_], Values, Values]:
    """Mask of the pixels in the sector, `(height, width)`, and their x and y, `(pixels,)`."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    right, down = x - PROBE[0], y - PROBE[1]
    seen = (np.abs(np.arctan2(right, down)) <= HALF_ANGLE) & (np.hypot(right, down) <= DEPTH)
    return np.asarray(seen), x[seen], y[seen]
