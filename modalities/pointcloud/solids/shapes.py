"""Triangle meshes of simple bodies; y points up, triangles are seen counter-clockwise from outside."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mesh = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Vertices `(n, 3)` and triangles `(m, 3)`."""


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Several bodies as one mesh."""
    first = np.cumsum([0] + [len(vertices) for vertices, _ in meshes])
    faces = [triangles + start for (_, triangles), start in zip(meshes, first, strict=False)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces)


def moved(mesh: Mesh, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
    """The same body elsewhere."""
    return mesh[0] + np.array([x, y, z]), mesh[1]


def prism(outline: Sequence[tuple[float, float]], height: float, top: float = 1.0) -> Mesh:
    """A body over a star-shaped outline in the x-z plane, from y = 0 up; `top` scales the upper outline (0 = pyramid).

    Lines from the outline's first corner to all others lie inside; it turns from x to z.
    """
    base = np.array([(x, 0.0, z) for x, z in outline])
    upper = base * [top, 1, top] + [0, height, 0]
    count = len(base)
    fan = [(0, index, index + 1) for index in range(1, count - 1)]
    sides = [
        corner
        for index in range(count)
        for corner in (
            (index, count + index, (index + 1) % count),
            ((index + 1) % count, count + index, count + (index + 1) % count),
        )
    ]
    faces = fan + [(count + a, count + c, count + b) for a, b, c in fan] + sides
    return np.concatenate([base, upper]), np.array(faces)


def box(width: float, height: float, depth: float) -> Mesh:
    """A box on the ground, centred in x and z."""
    x, z = width / 2, depth / 2
    return prism([(-x, -z), (x, -z), (x, z), (-x, z)], height)


def regular(corners: int, radius: float) -> list[tuple[float, float]]:
    """The outline of a regular polygon."""
    angles = np.arange(corners) * (2 * np.pi / corners)
    return [(float(radius * np.cos(angle)), float(radius * np.sin(angle))) for angle in angles]


def revolve(profile: Sequence[tuple[float, float]], segments: int = 32, *, turn: float = 2 * np.pi) -> Mesh:
    """A closed profile of (radius, height), turned about the y axis; `turn` < 2 pi leaves it open."""
    whole = turn >= 2 * np.pi
    angles = np.linspace(0, turn, segments + 1)[: segments if whole else None]
    ring = np.array(profile)
    vertices = np.concatenate(
        [np.stack([ring[:, 0] * np.cos(a), ring[:, 1], ring[:, 0] * np.sin(a)], axis=1) for a in angles]
    )
    size, faces = len(ring), []
    for step in range(segments):
        this, other = step * size, ((step + 1) % len(angles)) * size
        for index in range(size):
            after = (index + 1) % size
            faces += [(this + index, this + after, other + index), (this + after, other + after, other + index)]
    return vertices, np.array(faces)


def torus(radius: float, thickness: float, *, turn: float = 2 * np.pi) -> Mesh:
    """A ring of round section, lying on the ground."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    profile = [(float(radius + thickness * np.cos(a)), float(thickness * (1 + np.sin(a)))) for a in angles]
    return revolve(profile, turn=turn)
