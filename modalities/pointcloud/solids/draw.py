"""Labelled solids: a kind, a proportion word, a count word, a sentence and a mesh."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from modalities.pointcloud.augment import rotation_about
from modalities.pointcloud.solids.shapes import Mesh, box, join, moved, prism, regular, revolve, torus

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
COPIES = 3
"""Maximum number of bodies in a row."""


@dataclass(frozen=True)
class Kind:
    """A kind of solid.

    Args:
        plural: Its name in a row of several.
        words: Words for a small and for a large proportion, such as low and tall.
        build: Proportion in 0..1 and number of parts -> mesh.
        parts: Numbers of parts to choose from; (0,) = no parts that are named.
        part: The name of a part.
    """

    plural: str
    words: tuple[str, str]
    build: Callable[[float, int], Mesh]
    parts: tuple[int, ...] = (0,)
    part: str = ""


@dataclass(frozen=True)
class Solid:
    """One solid, or several of a kind in a row.

    Args:
        kind: The name of its kind, a key of `KINDS`.
        word: Its proportion in a word.
        count: How many stand in a row, 1 to `COPIES`.
        parts: How many steps or legs it has, 0 where none are named.
        mesh: Vertices and triangles, y up.
    """

    kind: str
    word: str
    count: int
    parts: int
    mesh: Mesh

    @property
    def sentence(self) -> str:
        """What it is, in words."""
        kind = KINDS[self.kind]
        parts = f" with {NUMBERS[self.parts]} {kind.part}" if self.parts else ""
        if self.count > 1:
            return f"{NUMBERS[self.count]} {self.word} {kind.plural}{parts}"
        return f"a {self.word} {self.kind}{parts}"


def _between(low: float, high: float, fraction: float) -> float:
    return float(low * (high / low) ** fraction)


def _l_profile(t: float, _: int) -> Mesh:
    wall = _between(0.12, 0.3, t)
    corner = [(0.0, 0.0), (1.0, 0.0), (1.0, wall), (wall, wall), (wall, 1.0), (0.0, 1.0)]
    return moved(prism([corner[3], *corner[4:], *corner[:3]], 1.6), -0.5, 0, -0.5)


def _table(t: float, legs: int) -> Mesh:
    height = _between(0.4, 1.2, t)
    corners = regular(legs, 0.55)
    return join([*(moved(box(0.1, height, 0.1), x, 0, z) for x, z in corners), moved(box(1.3, 0.1, 1.3), 0, height, 0)])


def _stairs(t: float, steps: int) -> Mesh:
    width = _between(0.4, 1.6, t)
    rise = 1.2 / steps
    return join([moved(box(1.2 / steps, rise * (n + 1), width), 1.2 * n / steps) for n in range(steps)])


def _mug(t: float, _: int) -> Mesh:
    height, radius = _between(0.5, 1.4, t), 0.45
    wall = [(0.0, 0.0), (radius, 0.0), (radius, height), (radius - 0.06, height), (radius - 0.06, 0.06), (0.0, 0.06)]
    vertices, faces = torus(0.3 * height, 0.05, turn=np.pi)
    handle = np.stack([vertices[:, 2] + radius, vertices[:, 0] + height / 2, vertices[:, 1] - 0.05], axis=1)
    return join([revolve(wall), (handle, faces)])


def _tube(t: float, _: int) -> Mesh:
    inner = 0.5 * (1 - _between(0.12, 0.6, t))
    return revolve([(inner, 0.0), (0.5, 0.0), (0.5, 1.5), (inner, 1.5)])


def _ring(t: float, _: int) -> Mesh:
    inner = 0.6 * (1 - _between(0.15, 0.6, t))
    return revolve([(inner, 0.0), (0.6, 0.0), (0.6, 0.12), (inner, 0.12)])


def _ball(t: float, _: int) -> Mesh:
    angles, stretch = np.linspace(-np.pi / 2, np.pi / 2, 17), _between(0.5, 1.8, t)
    return revolve([(float(0.5 * np.cos(a)), float(0.5 * stretch * (1 + np.sin(a)))) for a in angles])


def _wedge(t: float, _: int) -> Mesh:
    vertices, faces = prism([(0.0, 0.0), (1.2, 0.0), (0.0, _between(0.3, 1.2, t))], 0.8)
    return np.stack([vertices[:, 0] - 0.4, vertices[:, 2], vertices[:, 1] - 0.4], axis=1), faces[:, ::-1]


TALL, THICK = ("low", "tall"), ("thin", "thick")
KINDS: dict[str, Kind] = {
    "box": Kind("boxes", TALL, lambda t, _: box(0.8, _between(0.3, 1.8, t), 0.8)),
    "cylinder": Kind("cylinders", TALL, lambda t, _: prism(regular(32, 0.45), _between(0.3, 1.8, t))),
    "cone": Kind("cones", TALL, lambda t, _: prism(regular(32, 0.5), _between(0.4, 1.8, t), 0.0)),
    "pyramid": Kind("pyramids", TALL, lambda t, _: prism(regular(4, 0.6), _between(0.4, 1.8, t), 0.0)),
    "torus": Kind("tori", THICK, lambda t, _: torus(0.5, _between(0.07, 0.25, t))),
    "L-profile": Kind("L-profiles", THICK, _l_profile),
    "table": Kind("tables", TALL, _table, (3, 4, 6), "legs"),
    "mug": Kind("mugs", TALL, _mug),
    "staircase": Kind("staircases", ("narrow", "wide"), _stairs, (3, 4, 5, 6), "steps"),
    "tube": Kind("tubes", THICK, _tube),
    "ring": Kind("rings", THICK, _ring),
    "ball": Kind("balls", ("flat", "long"), _ball),
    "wedge": Kind("wedges", ("flat", "steep"), _wedge),
    "hexagonal prism": Kind("hexagonal prisms", TALL, lambda t, _: prism(regular(6, 0.5), _between(0.3, 1.8, t))),
}
"""Name -> kind; the first ten are the toy classes."""


def draw_solid(kind: str, rng: np.random.Generator) -> Solid:
    """Draw a solid of a kind: its proportion, its number, its direction; shaken a little, so that no two are equal.

    Args:
        kind: A key of `KINDS`.
        rng: Source of all randomness.

    Example:
        >>> draw_solid("table", np.random.default_rng(0)).sentence
        'a tall table with four legs'
    """
    known, large = KINDS[kind], bool(rng.integers(2))
    proportion = float(rng.uniform(0.65, 1.0) if large else rng.uniform(0.0, 0.35))  # nothing between the two words
    parts = int(rng.choice(known.parts))
    count = 1 + int(rng.choice(COPIES, p=(0.6, 0.25, 0.15)))
    vertices, faces = known.build(proportion, parts)
    vertices = vertices * rng.uniform(0.9, 1.1, 3)
    edge = 1.3 * float(np.ptp(vertices[:, 0]))
    vertices, faces = join([moved((vertices, faces), edge * position) for position in range(count)])
    vertices = vertices @ rotation_about(1, float(rng.uniform(0, 2 * np.pi))).T
    return Solid(kind, known.words[large], count, parts, (vertices, faces))
