"""Points on the surface of a triangle mesh, and a bounded choice of points of a large cloud."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sample_surface(
    vertices: NDArray[Any], faces: NDArray[Any], count: int, *, seed: int = 0
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Sample points on a mesh, uniformly by area.

    Each of `count` equal intervals of the cumulated area gives one point (stratified sampling), which is uniform on its
    triangle: `(1 - sqrt u) a + sqrt u (1 - v) b + sqrt u v c` (Osada et al. 2002). Degenerate triangles have no area
    and give no points.

    Args:
        vertices: Coordinates, `(n, 3)`.
        faces: Corners of each triangle, `(m, 3)`.
        count: Points to sample.
        seed: Seed of all random numbers; the same mesh and seed give the same points.

    Returns:
        Points `(count, 3)`, the triangle of each `(count,)`, and its barycentric weights `(count, 3)`.

    Raises:
        ValueError: no triangle has an area.

    Example:
        >>> square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
        >>> points, face, weights = sample_surface(square, np.array([[0, 1, 2], [0, 2, 3]]), 1000)
        >>> np.bincount(face).tolist(), bool((points[:, 2] == 0).all())
        ([500, 500], True)
    """
    corners = np.asarray(vertices, np.float64)[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    total = np.cumsum(area)
    if not len(total) or not 0 < total[-1] < np.inf:
        raise ValueError("expected a mesh of which a triangle has an area")
    rng = np.random.default_rng(seed)
    at = (np.arange(count) + rng.random(count)) * (total[-1] / count)
    face = np.searchsorted(total, at, side="right").clip(max=int(np.flatnonzero(area)[-1]))
    root, other = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - other), root * other], axis=1)
    return np.einsum("nc,ncd->nd", weights, corners[face]), face, weights


def face_normals(vertices: NDArray[Any], faces: NDArray[Any]) -> Floats:
    """Unit normals of triangles by the right-hand rule, `(m, 3)`; 0 of a degenerate one."""
    corners = np.asarray(vertices, np.float64)[faces]
    return unit_rows(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))


def unit_rows(vectors: Floats) -> Floats:
    """Rows of length 1, `(n, 3)` float64; 0 of a row of zeros. Squares of finite numbers neither overflow nor vanish.

    Example:
        >>> unit_rows(np.array([[3e300, 0.0, 4e300], [0.0, 0.0, 0.0]])).tolist()
        [[0.6, 0.0, 0.8], [0.0, 0.0, 0.0]]
    """
    # A power of two scales without rounding.
    scaled = np.ldexp(vectors, -np.frexp(np.abs(vectors).max(axis=1, keepdims=True, initial=0.0))[1])
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit: Floats = np.divide(scaled, length, out=np.zeros_like(scaled), where=length > 0)
    return unit


def smallest_hashes(points: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Choose points of a large cloud whatever their order: those whose coordinates have the smallest hashes.

    A pseudo-random subset that depends on the set of points alone, so that a file may be read in pieces.

    Args:
        points: Coordinates, `(n, 3)` float32 or int32.
        count: Points to keep.

    Returns:
        Indices in increasing order, `(min(n, count),)`.
    """
    if len(points) <= count:
        return np.arange(len(points))
    bits = np.ascontiguousarray(points + points.dtype.type(0)).view(np.uint32).astype(np.uint64)  # -0 becomes 0
    key = np.zeros(len(points), np.uint64)
    for column in bits.T:  # the finaliser of SplitMix64
        key = (key ^ column) + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return np.sort(np.argpartition(key, count - 1)[:count])
