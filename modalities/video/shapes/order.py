"""Scenes whose class is the order of events: reversed frames belong to the opposite class."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from modalities.video.shapes.scene import (
    COLOURS,
    FRAMES,
    GROUNDS,
    SHAPES,
    SIDE,
    SIZES,
    Body,
    Scene,
    along,
    backwards,
    draw_camera,
    draw_distractors,
    still,
    surroundings,
)

OPPOSITES = {
    "sideways": ("moves right", "moves left"),
    "vertically": ("moves down", "moves up"),
    "size": ("grows", "shrinks"),
    "passing": ("passes in front, then behind", "passes behind, then in front"),
}
"""Kind -> its class forwards and in reversed frames."""


def draw_order(kind: str, rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Draw two scenes with the same frames in opposite orders; they belong to opposite classes.

    Half of the sentences call the subject a shape, and half name no surroundings: a contrastive loss, which would
    otherwise match most clips by colour and background, needs the events.

    Args:
        kind: A key of `OPPOSITES`.
        rng: Source of all randomness.

    Example:
        >>> one, other = draw_order("size", np.random.default_rng(0))
        >>> one.sentence, other.label, one.reverse, other.reverse
        ('a shape shrinks', 'grows', True, False)
    """
    camera, ground = draw_camera(rng), str(rng.choice(GROUNDS))
    colours, shapes = rng.permutation(list(COLOURS))[:3], rng.choice(SHAPES, 3)
    kinds = [(str(colour), str(shape)) for colour, shape in zip(colours, shapes, strict=True)]
    others = draw_distractors(rng, camera, set(kinds))
    end = surroundings(ground, len(others))
    subject, rear, fore, events, size = _EVENTS[kind](kinds, camera, rng)
    bodies = (*others, *rear, subject, *fore)
    named, where = rng.random(2) < 0.5
    forwards, reverse = (
        f"a {f'{size}{subject.name}' if named else 'shape'} {event}{end if where else ''}" for event in events
    )
    labels = OPPOSITES[kind]
    scene = Scene("order", labels[0], forwards, bodies, 1, ground, camera, False, int(rng.integers(1 << 31)))
    pair = scene, backwards(scene, labels[1], reverse)
    return pair if rng.random() < 0.5 else (pair[1], pair[0])


_Kinds = list[tuple[str, str]]
_Parts = tuple[Body, list[Body], list[Body], tuple[str, str], str]
"""The subject; what it passes in front of, and behind; events forwards and backwards; its size in words."""


def _move(axis: int, kinds: _Kinds, camera: NDArray[np.float64], rng: np.random.Generator) -> _Parts:
    """One shape moves along an axis, for two of five clips past another one in the middle of its path."""
    size, travel = str(rng.choice(list(SIZES))), rng.uniform(26, 38)
    middle, across = SIDE / 2 + rng.uniform(-4, 4), rng.uniform(14, SIDE - 14)
    path = along(axis, middle - travel / 2, middle + travel / 2, across, rng.uniform(-3, 3))
    subject = Body(kinds[0][1], kinds[0][0], path, np.full(FRAMES, rng.uniform(*SIZES[size])))
    rear: list[Body] = []
    fore: list[Body] = []
    past = ""
    if rng.random() < 0.4:
        at = (middle, across) if axis == 0 else (across, middle)
        other = Body(kinds[1][1], kinds[1][0], still(at, camera), np.full(FRAMES, rng.uniform(6, 8)))
        behind = rng.random() < 0.5
        (fore if behind else rear).append(other)
        past = f" {'behind' if behind else 'in front of'} a {other.name}"
    labels = OPPOSITES["sideways" if axis else "vertically"]
    return subject, rear, fore, (f"{labels[0]}{past}", f"{labels[1]}{past}"), f"{size} "


def _grow(kinds: _Kinds, camera: NDArray[np.float64], rng: np.random.Generator) -> _Parts:
    """One shape grows, and drifts a little."""
    centre = rng.uniform(18, SIDE - 18, 2)
    path = centre + rng.uniform(-4, 4, 2) * np.linspace(-1, 1, FRAMES)[:, None]
    radius = np.linspace(rng.uniform(4, 5.5), rng.uniform(11, 14), FRAMES)
    subject = Body(kinds[0][1], kinds[0][0], path, radius)
    return subject, [], [], OPPOSITES["size"], ""


def _pass(kinds: _Kinds, camera: NDArray[np.float64], rng: np.random.Generator) -> _Parts:
    """One shape passes in front of a second one, then behind a third one."""
    axis, way, across = int(rng.integers(2)), rng.choice((-1, 1)), rng.uniform(16, SIDE - 16)
    middle = SIDE / 2
    path = along(axis, middle - way * 24, middle + way * 24, across, rng.uniform(-2, 2))
    subject = Body(kinds[0][1], kinds[0][0], path, np.full(FRAMES, rng.uniform(5, 6.5)))
    passed = []
    for (colour, shape), sign in zip(kinds[1:], (-1, 1), strict=True):
        along_axis, side_by_side = middle + sign * way * 12, across + rng.uniform(-2, 2)
        at = (along_axis, side_by_side) if axis == 0 else (side_by_side, along_axis)
        passed.append(Body(shape, colour, still(at, camera), np.full(FRAMES, rng.uniform(6.5, 8))))
    first, then = (body.name for body in passed)
    events = (
        f"passes in front of a {first}, then behind a {then}",
        f"passes behind a {then}, then in front of a {first}",
    )
    return subject, passed[:1], passed[1:], events, ""


_EVENTS: dict[str, Callable[[_Kinds, NDArray[np.float64], np.random.Generator], _Parts]] = {
    "sideways": partial(_move, 1),
    "vertically": partial(_move, 0),
    "size": _grow,
    "passing": _pass,
}
