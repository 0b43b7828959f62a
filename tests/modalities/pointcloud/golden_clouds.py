"""One mesh and one cloud, written in every format by other programs: trimesh, plyfile, laspy, h5py, NumPy."""

import io
from pathlib import Path

import h5py
import laspy
import numpy as np
import plyfile
import trimesh

COUNT = 500


def cloud() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, colours as bytes, unit normals."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(COUNT, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals * [1.0, 2.0, 3.0] + [5, 6, 7], rng.integers(0, 256, (COUNT, 3)).astype(np.uint8), normals


def mesh() -> trimesh.Trimesh:
    """A box of 1 x 2 x 3, off the origin."""
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    box.apply_translation((10, 20, 30))
    return box


def mesh_files() -> dict[str, bytes]:
    """Format -> the mesh."""
    box = mesh()
    files = {f"{kind}": _bytes(box.export(file_type=kind)) for kind in ("off", "obj", "stl", "stl_ascii", "glb")}
    parts = trimesh.Scene([box]).export(file_type="gltf", embed_buffers=True)
    return files | {
        "gltf": parts["model.gltf"],
        "ply-ascii": _bytes(box.export(file_type="ply", encoding="ascii")),
        "ply-little": _bytes(box.export(file_type="ply")),
        "ply-big": _mesh_ply(box, ">"),
        "off-one-line": files["off"].replace(b"OFF\n", b"OFF", 1),
        "npz": _npz(points=box.vertices, faces=box.faces),
    }


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _mesh_ply(box: trimesh.Trimesh, order: str) -> bytes:
    vertices = np.array([tuple(row) for row in box.vertices], dtype=[(axis, "f8") for axis in "xyz"])
    faces = np.array([(row.tolist(),) for row in box.faces], dtype=[("vertex_indices", "i4", (3,))])
    elements = [plyfile.PlyElement.describe(vertices, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    stream = io.BytesIO()
    plyfile.PlyData(elements, byte_order=order).write(stream)
    return stream.getvalue()


def cloud_ply(text: bool, order: str) -> bytes:
    points, colours, normals = cloud()
    kinds = [(name, "f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    kinds += [("quality", "i2")] + [(name, "u1") for name in ("red", "green", "blue")]
    rows = zip(points.tolist(), normals.tolist(), colours.tolist(), strict=True)
    table = np.array([(*p, *n, 7, *c) for p, n, c in rows], dtype=kinds)
    stream = io.BytesIO()
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")], text=text, byte_order=order).write(stream)
    return stream.getvalue()


def cloud_las(folder: Path, suffix: str, points: np.ndarray, colours: np.ndarray | None) -> bytes:
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales, header.offsets = np.full(3, 0.001), np.floor(points.min(0))
    las = laspy.LasData(header)
    las.x, las.y, las.z = points.T
    if colours is not None:
        las.red, las.green, las.blue = colours.T
    path = folder / f"cloud.{suffix}"
    las.write(path)
    return path.read_bytes()


def cloud_h5(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip")
    return stream.getvalue()


def cloud_files(folder: Path) -> dict[str, bytes]:
    """Format -> the cloud, with its colours where the format has some."""
    points, colours, normals = cloud()
    text, named, npy = io.StringIO(), io.StringIO(), io.BytesIO()
    np.savetxt(text, np.hstack([points, normals]), delimiter=",")
    np.savetxt(named, np.hstack([points, colours]), header="X Y Z R G B", fmt="%.8g")
    np.save(npy, np.hstack([points, normals]).astype(np.float32))
    wide = colours.astype(np.uint16) * 257
    return {
        "ply-ascii": cloud_ply(True, "="),
        "ply-little": cloud_ply(False, "<"),
        "ply-big": cloud_ply(False, ">"),
        "las": cloud_las(folder, "las", points, wide),
        "laz": cloud_las(folder, "laz", points, wide),
        "xyz-normals": text.getvalue().encode(),
        "xyz-colours": named.getvalue().encode(),
        "npy": npy.getvalue(),
        "npz": _npz(xyz=points, rgb=colours / 255, normals=normals),
        "h5": cloud_h5(data=points[None].astype(np.float32)),
        "obj": _obj(points, colours),
    }


def _obj(points: np.ndarray, colours: np.ndarray) -> bytes:
    rows = zip(points.tolist(), (colours / 255).tolist(), strict=True)
    return "\n".join("v " + " ".join(map(repr, [*p, *c])) for p, c in rows).encode()
