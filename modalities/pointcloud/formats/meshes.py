"""OFF, OBJ, glTF, PLY and STL through trimesh: bytes -> `Geometry`. Files that these name are never opened."""

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from mmalign.registry import missing_extra
from modalities.common.reading.silence import quiet_library
from modalities.pointcloud.formats.gltf import geometry_alone
from modalities.pointcloud.formats.limits import MAX_TEXT_BYTES, check_rows
from modalities.pointcloud.formats.ply_header import check_ply
from modalities.pointcloud.sample import Geometry

quiet_meshes = quiet_library("trimesh")
"""Inside `with quiet_meshes:` trimesh logs nothing about a damaged file, and no warning is shown."""

ZERO_CORNER = re.compile(rb"^[ \t]*f[ \t](?:.*[ \t])?0(?=[/ \t\r]|$)", re.MULTILINE)
"""A face of an OBJ file with the vertex 0, which does not exist."""


def parse_off(data: bytes, name: str) -> Geometry:
    """OFF, with the counts on the first or on the second line; the colours of COFF are not read."""
    return _joined(_load(_short(data, name), "off", name), name)


def parse_obj(data: bytes, name: str) -> Geometry:
    """Wavefront OBJ; colours after the coordinates of a vertex are read, materials are not."""
    if ZERO_CORNER.search(data, 0, MAX_TEXT_BYTES):  # the parser would take the last vertex
        raise BadSample(name, "vertices counted from 1 in the faces of an OBJ file", "a face with vertex 0")
    return _joined(_load(_short(data, name), "obj", name), name)


def parse_stl(data: bytes, name: str) -> Geometry:
    """STL, binary or ASCII."""
    return _joined(_load(data, "stl", name), name)


def parse_gltf(data: bytes, name: str) -> Geometry:
    """GLB, or glTF with its data inside: all meshes of the scene, placed; colours of vertices and of materials."""
    small, kind = geometry_alone(data, name)
    geometry = _joined(_load(small, kind, name), name)
    geometry.up, geometry.units = "y", "m"  # by the standard
    return geometry


def parse_ply(data: bytes, name: str) -> Geometry:
    """PLY, ASCII or binary of either byte order: x, y, z, red, green, blue and nx, ny, nz by name."""
    declared = check_ply(data, name)
    loaded = _load(data, "ply", name)
    geometry = _joined(loaded, name, colours=False)
    raw = loaded.metadata["_ply_raw"]["vertex"]["data"]
    columns = {key: np.asarray(values).reshape(-1) for key, values in _columns(raw)}
    if len(geometry.vertices) == declared["vertex"].rows:  # else trimesh has reordered them
        geometry.colours = _stack(columns, ("red", "green", "blue"))
        geometry.normals = _stack(columns, ("nx", "ny", "nz"))
    return geometry


def _columns(raw: Any) -> list[tuple[str, Any]]:
    return list(raw.items()) if isinstance(raw, dict) else [(key, raw[key]) for key in raw.dtype.names]


def _stack(columns: dict[str, NDArray[Any]], names: tuple[str, ...]) -> NDArray[Any] | None:
    return np.stack([columns[key] for key in names], axis=1) if all(key in columns for key in names) else None


def _short(data: bytes, name: str) -> bytes:
    if len(data) > MAX_TEXT_BYTES:
        raise BadSample(name, f"a text file of at most {MAX_TEXT_BYTES} bytes", f"{len(data)} bytes")
    return data


def _load(data: bytes, kind: str, name: str) -> Any:
    try:
        import trimesh
    except ModuleNotFoundError as error:
        raise missing_extra("trimesh", "pointcloud") from error
    # Without a resolver there is nothing by which another file could be opened; of glTF only plain colours are left.
    options: dict[str, Any] = {"resolver": None, "process": False, "skip_materials": kind in ("obj", "ply")}
    if kind == "ply":
        options["fix_texture"] = False  # which would reorder the vertices
    try:
        with quiet_meshes:
            return trimesh.load(io.BytesIO(data), file_type=kind, **options)
    except Exception as error:  # the parser raises arbitrary exceptions for damaged files
        raise BadSample(name, f"a readable {kind.upper()} file", f"a damaged one ({type(error).__name__})") from error


def _joined(loaded: Any, name: str, *, colours: bool = True) -> Geometry:
    """All meshes of a scene, each as often as it stands there, in the scene's coordinates."""
    parts = []
    if hasattr(loaded, "graph"):
        for node in loaded.graph.nodes_geometry:
            placed, key = loaded.graph[node]
            parts.append((loaded.geometry[key], np.asarray(placed, np.float64)))
    else:
        parts.append((loaded, np.eye(4)))
    parts = [(part, placed) for part, placed in parts if hasattr(part, "vertices") and len(part.vertices)]
    if not parts:
        raise BadSample(name, "vertices", "a file without any")
    vertices, faces, paint, first = [], [], [], 0
    for part, placed in parts:
        corners = np.asarray(part.vertices, np.float64)
        if corners.ndim != 2 or corners.shape[1] != 3:
            raise BadSample(name, "vertices of three coordinates", f"coordinates of shape {corners.shape}")
        with np.errstate(invalid="ignore", over="ignore"):  # infinite vertices are refused by the caller, if used
            vertices.append(corners @ placed[:3, :3].T + placed[:3, 3])
        triangles = np.asarray(getattr(part, "faces", np.zeros((0, 3))), np.int64)
        check_rows(first + len(corners), "vertices", name)
        if len(triangles) and not 0 <= triangles.min() <= triangles.max() < len(corners):
            raise BadSample(name, f"corners among {len(corners)} vertices", "a triangle with another corner")
        faces.append(triangles + first)
        paint.append(_paint(part) if colours else None)
        first += len(corners)
    check_rows(sum(map(len, faces)), "triangles", name)
    given = [one for one in paint if one is not None]
    joined = np.concatenate(given) if given and len(given) == len(parts) else None
    return Geometry(np.concatenate(vertices), np.concatenate(faces), joined)


def _paint(part: Any) -> NDArray[np.uint8] | None:
    """Red, green, blue of each vertex as bytes; None where the file gives no colour."""
    if not hasattr(part, "faces"):
        colours = getattr(part, "colors", None)
        return None if colours is None or len(colours) != len(part.vertices) else np.asarray(colours)[:, :3]
    if part.visual.kind == "vertex":
        return np.asarray(part.visual.vertex_colors)[:, :3]
    factor = getattr(getattr(part.visual, "material", None), "baseColorFactor", None)
    return None if factor is None else np.tile(np.asarray(factor, np.uint8)[:3], (len(part.vertices), 1))
