"""One point cloud in memory, and the geometry that a file's parser returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 1 << 16
"""Maximum number of points of a sample (768 KB of coordinates); larger clouds are subsampled."""

MIN_POINTS = 8
"""Fewest points of a sample: fewer are no shape."""

SURFACE_POINTS = 8192
"""Points that are sampled on the surface of a mesh, as ULIP and Point-BERT do."""

AXES = ("y", "z")
"""Axes that may point up."""

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
"""Unit -> its length in metres."""


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points of a shape or a scan.

    Args:
        points: Coordinates, `(n, 3)` float32; large offsets are subtracted, see `read_pointcloud`.
        colours: Red, green, blue in 0..1, `(n, 3)` float32; None = the file has none.
        normals: Unit normals, `(n, 3)` float32; None = not known.
        up: The axis that points up where the format defines it (y in glTF, z in LAS), else "".
        units: The unit of length where the format defines it (m in glTF), else "".

    Example:
        >>> cloud = PointCloud(np.eye(3, dtype=np.float32))
        >>> len(cloud), cloud.nbytes
        (3, 36)
    """

    points: NDArray[np.float32]
    colours: NDArray[np.float32] | None = None
    normals: NDArray[np.float32] | None = None
    up: str = ""
    units: str = ""

    def __len__(self) -> int:
        return len(self.points)

    @property
    def nbytes(self) -> int:
        """Its size in memory."""
        return sum(values.nbytes for values in self._arrays() if values is not None)

    def _arrays(self) -> tuple[NDArray[np.float32] | None, ...]:
        return self.points, self.colours, self.normals

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PointCloud) or (self.up, self.units) != (other.up, other.units):
            return False
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]


@dataclass
class Geometry:
    """What a file holds: points, or the triangles between them.

    Args:
        vertices: Coordinates, `(n, 3)` numbers.
        faces: Corners of triangles as indices of vertices, `(m, 3)`; None or empty = a cloud.
        colours: Red, green, blue of each vertex, `(n, 3)`: integers 0..255, or floats 0..1; None = none.
        normals: Normal of each vertex of a cloud, `(n, 3)`; None = none. Normals of a mesh come from its faces.
        up: As in `PointCloud`.
        units: As in `PointCloud`.
    """

    vertices: NDArray[Any]
    faces: NDArray[Any] | None = None
    colours: NDArray[Any] | None = None
    normals: NDArray[Any] | None = None
    up: str = ""
    units: str = ""
