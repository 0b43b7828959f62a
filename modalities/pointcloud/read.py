"""Read point clouds and meshes from any supported source as `PointCloud`. File formats are recognised by content."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.local_file import demand_file
from modalities.pointcloud.formats import arrays, las, meshes
from modalities.pointcloud.formats.limits import MAX_BYTES
from modalities.pointcloud.sample import MAX_POINTS, MIN_POINTS, SURFACE_POINTS, Geometry, PointCloud
from modalities.pointcloud.surface import face_normals, sample_surface, smallest_hashes, unit_rows

WANTED = "a mesh or point cloud: OFF, OBJ, GLB, glTF, PLY, STL, LAS, LAZ, XYZ, NPY, NPZ or HDF5"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OBJ_WORDS = {b"v", b"vn", b"vt", b"f", b"o", b"g", b"s", b"l", b"p", b"mtllib", b"usemtl"}
PCD_WORDS = {b"VERSION", b"FIELDS"}
Parser = Callable[[bytes, str], Geometry]

MAGIC: tuple[tuple[bytes, Parser], ...] = (
    (b"glTF", meshes.parse_gltf),
    (b"ply\n", meshes.parse_ply),
    (b"ply\r", meshes.parse_ply),
    (b"OFF", meshes.parse_off),
    (b"COFF", meshes.parse_off),
    (b"LASF", las.parse_las),
    (b"\x89HDF\r\n\x1a\n", arrays.parse_h5),
    (b"\x93NUMPY", arrays.parse_npy),
    (b"PK\x03\x04", arrays.parse_npz),
)
"""First bytes of a file -> its parser."""


def read_pointcloud(source: Any) -> PointCloud:
    """Read a cloud, or sample the surface of a mesh: `SURFACE_POINTS` points by area, the same ones each time.

    The mean is subtracted in double precision, so that float32 holds centimetres also of UTM coordinates. Of more than
    `MAX_POINTS` points a pseudo-random subset is kept, whatever their order.

    Args:
        source: A path or the bytes of an OFF, OBJ, GLB, glTF, PLY, STL, LAS, LAZ, XYZ, NPY, NPZ or HDF5 file; an array
            or tensor `(n, 3)`; a mapping of arrays `points`, `colours`, `normals`, `faces`; or a `PointCloud`.
            Colours are integers in 0..255 or floats in 0..1.

    Raises:
        BadSample: it is no cloud, is damaged or too large, has fewer than `MIN_POINTS` points or a number that is not
            finite, or its colours are out of range.

    Example:
        >>> corners = [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
        >>> cloud = read_pointcloud({"points": corners, "faces": [[0, 1, 2]]})
        >>> cloud.points.shape, cloud.normals[0].tolist()
        ((8192, 3), [0.0, 0.0, 1.0])
    """
    if isinstance(source, PointCloud):
        return source
    name, geometry = _open(source)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN, infinities and values beyond a type are refused
        return _finish(geometry, name)


def _open(source: Any) -> tuple[str, Geometry]:
    if isinstance(source, str | PathLike):
        path = Path(source)
        demand_file(path, WANTED, most=MAX_BYTES)
        return str(path), _from_bytes(path.read_bytes(), str(path))
    if isinstance(source, bytes | bytearray | memoryview):
        name = f"{len(source)} bytes"
        return name, _from_bytes(bytes(source), name)
    if isinstance(source, Mapping):
        return "mapping", arrays.from_arrays(source, "mapping")
    if hasattr(source, "detach"):
        source = source.detach().cpu().numpy()
    if isinstance(source, np.ndarray):
        return "array", arrays.from_table(source, "array")
    raise BadSample("point cloud", "a path, bytes, an array or a mapping of arrays", f"a {type(source).__name__}")


def _from_bytes(data: bytes, name: str) -> Geometry:
    if len(data) > MAX_BYTES:
        raise BadSample(name, f"at most {MAX_BYTES} bytes", f"{len(data)} bytes")
    data = data.removeprefix(BYTE_ORDER_MARK)
    for magic, parser in MAGIC:
        if data.startswith(magic):
            return parser(data, name)
    # A binary STL may begin with the word of an ASCII one; its size gives it away.
    if len(data) >= 84 and len(data) == 84 + 50 * int.from_bytes(data[80:84], "little"):
        return meshes.parse_stl(data, name)
    lines = (line.split() for line in data[: 1 << 16].splitlines())
    first = next((words[0] for words in lines if words and not words[0].startswith(b"#")), b"")
    if first == b"solid":
        return meshes.parse_stl(data, name)
    if first.startswith(b"{"):
        return meshes.parse_gltf(data, name)
    if first in (b"OFF", b"COFF"):  # behind a comment
        return meshes.parse_off(data, name)
    if first in PCD_WORDS:
        raise BadSample(name, WANTED, "a PCD file: convert it to PLY")
    if first in OBJ_WORDS:
        return meshes.parse_obj(data, name)
    if first and b"\0" not in data[:1024]:
        return arrays.parse_text(data, name)
    raise BadSample(name, WANTED, "another file" if data else "an empty file")


def _finish(geometry: Geometry, name: str) -> PointCloud:
    """Bounds, the surface, the offset, colours and normals."""
    vertices = np.asarray(geometry.vertices)
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or vertices.dtype.kind not in "iuf":
        raise BadSample(name, "points in rows of x y z", f"{vertices.dtype} values of shape {vertices.shape}")
    vertices = vertices.astype(np.float64)
    colours = _colours(geometry.colours, len(vertices), name)
    faces = _faces(geometry.faces, len(vertices), name)
    used = vertices if faces is None else vertices[np.unique(faces)]
    if not (np.abs(used) < 1e12).all():  # NaN and infinity answer no
        raise BadSample(name, "finite coordinates", "a NaN, an infinity or a number above 1e12")
    if faces is not None:
        try:
            points, face, weights = sample_surface(vertices, faces, SURFACE_POINTS)
        except ValueError as error:
            raise BadSample(name, "a mesh of which a triangle has an area", "degenerate triangles alone") from error
        normals: NDArray[Any] | None = face_normals(vertices, faces)[face]
        colours = None if colours is None else np.einsum("nc,ncd->nd", weights, colours[faces[face]])
    else:
        points, normals = vertices, _normals(geometry.normals, len(vertices), name)
    if len(points) < MIN_POINTS:
        raise BadSample(name, f"at least {MIN_POINTS} points", str(len(points)))
    points = points - np.sort(points, axis=0).mean(0)  # sorted: the sum does not depend on the order of the points
    single = points.astype(np.float32)
    if not (np.ptp(single, axis=0) > 0).any():
        raise BadSample(name, "points that differ", f"{len(points)} points in one place")
    chosen = smallest_hashes(single, MAX_POINTS)
    paint, upright = (None if values is None else values[chosen].astype(np.float32) for values in (colours, normals))
    return PointCloud(single[chosen], paint, upright, geometry.up, geometry.units)


def _faces(faces: NDArray[Any] | None, count: int, name: str) -> NDArray[np.int64] | None:
    triangles: NDArray[Any] = np.zeros(0) if faces is None else np.asarray(faces)
    if triangles.ndim and not len(triangles):
        return None
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype.kind not in "iu":
        raise BadSample(name, "triangles as 3 indices", f"{triangles.dtype} values of shape {triangles.shape}")
    if not 0 <= triangles.min() <= triangles.max() < count:
        raise BadSample(name, f"corners among {count} vertices", f"{triangles.min()}..{triangles.max()}")
    return triangles.astype(np.int64)


def _colours(colours: NDArray[Any] | None, count: int, name: str) -> NDArray[np.float64] | None:
    """In 0..1: the type states the range, and values outside of it are refused."""
    if colours is None:
        return None
    if colours.shape != (count, 3):
        raise BadSample(name, f"colours of shape ({count}, 3)", f"shape {colours.shape}")
    values, whole = colours.astype(np.float64), colours.dtype.kind in "iu"
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    if not 0 <= low <= high <= (255 if whole else 1):  # NaN answers no
        raise BadSample(
            name, "colours as integers in 0..255 or floats in 0..1", f"{colours.dtype} in {low:g}..{high:g}"
        )
    return values / 255 if whole else values


def _normals(normals: NDArray[Any] | None, count: int, name: str) -> NDArray[np.float64] | None:
    if normals is None:
        return None
    if normals.shape != (count, 3) or not np.isfinite(normals).all():
        raise BadSample(name, f"finite normals of shape ({count}, 3)", f"shape {normals.shape}, or a NaN")
    return unit_rows(normals.astype(np.float64))
