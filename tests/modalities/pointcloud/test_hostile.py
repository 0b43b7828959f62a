"""Hostile files: a clear error, bounded memory and time, and no other file is opened."""

import builtins
import io
import json
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import golden_clouds as golden
import h5py
import numpy as np
import pytest
import trimesh

import mmalign
from mmalign.errors import BadSample
from modalities.pointcloud import read
from modalities.pointcloud.formats import meshes
from modalities.pointcloud.read import read_pointcloud
from modalities.pointcloud.sample import SURFACE_POINTS

MESHES = golden.mesh_files()
TRIANGLE = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]


def ply(form: str, vertices: int, body: bytes, kind: str = "float") -> bytes:
    axes = "\n".join(f"property {kind} {axis}" for axis in "xyz")
    return f"ply\nformat {form} 1.0\nelement vertex {vertices}\n{axes}\nend_header\n".encode() + body


def gltf(**changes: Any) -> bytes:
    tree = json.loads(MESHES["gltf"])
    for key, value in changes.items():
        tree[key] = value(tree.get(key)) if callable(value) else value
    return json.dumps(tree).encode()


def h5_object() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("data", data=["a", "b"], dtype=h5py.string_dtype())
    return stream.getvalue()


def h5_link(folder: str) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["data"] = h5py.ExternalLink(f"{folder}/secret.h5", "data")
    return stream.getvalue()


def h5_external(folder: str) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("data", (100, 3), "f4", external=[(f"{folder}/secret.bin", 0, 1200)])
    return stream.getvalue()


def h5_virtual(folder: str) -> bytes:
    layout = h5py.VirtualLayout((200, 3), "f4")
    layout[:] = h5py.VirtualSource(f"{folder}/secret.h5", "data", (200, 3))
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_virtual_dataset("data", layout)
    return stream.getvalue()


def h5_huge() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("data", (1 << 30, 3), "f8", chunks=(1 << 16, 3), compression="gzip")
    return stream.getvalue()


def npz_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("points.npy", "w") as member:
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118))
        member.write(b"{'descr': '<f8', 'fortran_order': False, 'shape': (200000000, 3)}".ljust(117) + b"\n")
        for _ in range(220):
            member.write(bytes(1 << 20))
    return stream.getvalue()


def npy_of(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def node_bomb() -> bytes:
    """Thirty nodes with two children each, which are the same: a thousand million boxes."""
    nodes = [{"children": [at + 1, at + 1]} for at in range(30)] + [{"mesh": 0}]
    return gltf(nodes=nodes, scenes=[{"nodes": [0]}])


HOSTILE: dict[str, tuple[Any, str]] = {
    "empty": (b"", "an empty file"),
    "another file": (b"\x00\x01\x02" * 50, "another file"),
    "words": (b"this is a letter\nto you\n", "table of numbers"),
    "one point": (b"1 2 3\n", "at least 8 points, got 1"),
    "points in one place": (np.ones((50, 3)), "points that differ"),
    "NaN vertices": (np.full((50, 3), np.nan), "finite coordinates"),
    "infinite vertices": (np.full((50, 3), np.inf), "finite coordinates"),
    "NaN in a mesh": (b"v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n", "finite coordinates"),
    "six columns of anything": (np.random.default_rng(0).random((50, 6)), "unit normals"),
    "complex numbers": (np.ones((50, 3), complex), "x y z"),
    "degenerate faces": (b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\nf 1 1 1\n", "a triangle has an area"),
    "no such corner": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "OBJ"),
    "a corner 0 in OBJ": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\nf 1/1 0/1 2/1\n", "a face with vertex 0"),
    "a last corner 0 in OBJ": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\r\nf 1 2 0\r\n", "a face with vertex 0"),
    "an OBJ cut within its first vertex": (b"v 0.1 0.2", "three coordinates"),
    "an infinite vertex in a mesh": (b"v 0 0 0\nv 1 0 0\nv inf 1 0\nf 1 2 3\n", "finite coordinates"),
    "PCD": (b"# .PCD v.7\nVERSION .7\nFIELDS x y z\n", "convert it to PLY"),
    "a negative corner": ({"points": TRIANGLE, "faces": [[0, 1, -1]]}, "corners among 3"),
    "faces of floats": ({"points": TRIANGLE, "faces": [[0.0, 1, 2]]}, "triangles as 3 indices"),
    "OFF that lies": (b"OFF\n4000000000 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "damaged"),
    "STL without faces": (b"solid a\nendsolid a\n", "vertices"),
    "STL cut short": (MESHES["stl"][:-10], "mesh or point cloud"),
    "PLY in ascii that lies": (ply("ascii", 900, b"0 0 0\n1 1 1\n"), "900 rows of data"),
    "PLY in binary that lies": (ply("binary_little_endian", 900, bytes(24)), "900 rows of data"),
    "PLY of all memory": (ply("binary_big_endian", 10**12, bytes(24)), "at most"),
    "PLY of a negative number": (ply("ascii", -1, b""), "at most"),
    "PLY of unknown types": (ply("ascii", 2, b"0 0 0\n1 1 1\n", "quaternion"), "known types"),
    "PLY without an end": (b"ply\nformat ascii 1.0\n" + b"comment x\n" * 10_000, "end_header"),
    "GLB cut short": (MESHES["glb"][:-20], "as it declares"),
    "GLB of nothing": (b"glTF" + struct.pack("<II", 2, 12), "JSON"),
    "glTF with a file outside": (gltf(buffers=[{"byteLength": 99, "uri": "../../secret.bin"}]), "inside the file"),
    "glTF with an absolute file": (gltf(buffers=[{"byteLength": 99, "uri": "file:///etc/passwd"}]), "inside the file"),
    "glTF of zeros": (
        gltf(accessors=[{"componentType": 5126, "count": 8_000_000, "type": "VEC3"}] * 3), "as it declares",
    ),
    "glTF in a circle": (gltf(nodes=[{"children": [1]}, {"children": [0], "mesh": 0}]), "a circle"),
    "glTF bomb": (node_bomb(), "two parents"),
    "glTF compressed": (gltf(extensionsRequired=["KHR_draco_mesh_compression"]), "no extension"),
    "glTF of another shape": (b'{"asset": {}, "meshes": 3}', "a glTF scene"),
    "NPY of objects": (npy_of(np.array([{"a": 1}], dtype=object)), "pickle"),
    "NPY that lies": (npy_of(np.zeros((4, 3)))[:128].replace(b"(4, 3)", b"(10**9,)"), "damaged"),
    "NPZ bomb": (npz_bomb(), "at most"),
    "NPZ cut short": (MESHES["npz"][:-40], "damaged"),
    "NPZ without points": (golden._npz(other=np.ones(3)), "an array named points"),
    "H5 of an object type": (h5_object(), "numbers in 'data'"),
    "H5 of all memory": (h5_huge(), "at most"),
    "H5 of many clouds": (golden.cloud_h5(data=np.ones((5, 20, 3), np.float32)), "x y z"),
    "H5 cut short": (golden.cloud_h5(data=np.ones((50, 3)))[:900], "damaged"),
    "LAS of nothing": (b"LASF" + bytes(400), "damaged|point"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_a_hostile_file_is_one_clear_error(case: str) -> None:
    source, words = HOSTILE[case]
    tracemalloc.start()
    try:
        with pytest.raises(BadSample, match=words) as caught:
            read_pointcloud(source)
        assert tracemalloc.get_traced_memory()[1] < 5e7 + 8 * (len(source) if isinstance(source, bytes) else 0)
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("count", [2003, 6000, 2**31 - 1])
def test_a_las_file_with_a_wrong_point_count_is_rejected(count: int, tmp_path: Path) -> None:
    points, _, _ = golden.cloud()
    for suffix in ("las", "laz"):
        data = bytearray(golden.cloud_las(tmp_path, suffix, np.tile(points, (4, 1)), None))
        data[107:111] = struct.pack("<I", count)  # of 2000
        with pytest.raises(BadSample):
            read_pointcloud(bytes(data))


def test_eight_bit_colours_in_las_are_refused(tmp_path: Path) -> None:
    points, colours, _ = golden.cloud()
    with pytest.raises(BadSample, match="multiply them by 257"):
        read_pointcloud(golden.cloud_las(tmp_path, "las", points, colours.astype(np.uint16)))


def obj_material(folder: str) -> bytes:
    return b"mtllib " + folder.encode() + b"/secret.mtl\nusemtl a\n" + MESHES["obj"]


def ply_texture(folder: str) -> bytes:
    start = b"format ascii 1.0\n"
    return MESHES["ply-ascii"].replace(start, start + f"comment TextureFile {folder}/secret.png\n".encode())


def gltf_image(folder: str) -> bytes:
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
    return gltf(images=[{"uri": f"{folder}/secret.png"}], textures=[{"source": 0}], materials=[material])


def gltf_buffer(folder: str) -> bytes:
    return gltf(buffers=[{"byteLength": 99, "uri": f"{folder}/secret.bin"}])


REFUSED = (gltf_buffer, h5_link, h5_external, h5_virtual)


@pytest.mark.parametrize("make", [obj_material, ply_texture, gltf_image, *REFUSED])
def test_no_other_file_is_opened(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)  # a cloud, were it read
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = secret
    for name in ("secret.mtl", "secret.png", "secret.bin"):
        (tmp_path / name).write_bytes(secret.tobytes())
    source = make(str(tmp_path))
    read_pointcloud(MESHES["glb"])  # imports are done
    plain = builtins.open

    def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
        assert "secret" not in str(file), f"opened {file}"
        return plain(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    if make in REFUSED:
        with pytest.raises(BadSample, match="in the file itself|inside the file"):
            read_pointcloud(source)
    else:
        assert len(read_pointcloud(source)) == SURFACE_POINTS


def test_a_zip_of_meshes_is_no_npz() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.obj", MESHES["obj"])
    with pytest.raises(BadSample, match="an array named points"):
        read_pointcloud(stream.getvalue())


def test_an_obj_with_zeros_elsewhere_is_read() -> None:
    assert len(read_pointcloud(b"v 0 0 0\nv 10 0 0\nv 0 10 0\nf 1/10/20 2/30/40 3/5/60\ng f 0 1\n")) == SURFACE_POINTS


@pytest.mark.parametrize("kind", ["obj", "off", "xyz"])
def test_a_byte_order_mark_or_a_first_comment_changes_nothing(kind: str) -> None:
    text = MESHES[kind] if kind != "xyz" else b"0 0 0\n1 0 0\n" * 5
    plain = read_pointcloud(text)
    assert (read_pointcloud(b"\xef\xbb\xbf" + text).points == plain.points).all()
    assert (read_pointcloud(b"# made by hand\n" + text).points == plain.points).all()


def test_an_obj_of_one_long_line_is_searched_in_linear_time() -> None:
    line = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf " + b"10 " * 1_000_000
    start = time.process_time()
    assert not meshes.ZERO_CORNER.search(line)
    assert time.process_time() - start < 2


def test_check_lists_hostile_members_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_BYTES", 1 << 16)
    with zipfile.ZipFile(tmp_path / "files.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("box.obj", MESHES["obj"])
        archive.writestr("bomb.xyz", b"0 0 0\n" * 20_000)
        archive.writestr("lie.ply", ply("ascii", 900, b"0 0 0\n"))
    table = tmp_path / "table.csv"
    table.write_text("mesh\nbox.obj\nbomb.xyz\nlie.ply\nnone.obj\n../out.obj\n")
    columns = {"pointcloud": "mesh"}
    config = mmalign.DataConfig(
        "manifest", str(table), files=str(tmp_path / "files.zip"), columns=columns, max_rejected=1.0, validation=0.0
    )
    report = mmalign.check(config)
    assert report.kinds == {"bad sample": 3, "missing file": 1}
    for words in ("at most 65536 bytes", "900 rows of data", "leaves the folder"):
        assert words in str(report.problems)


def test_a_large_mesh_is_bounded() -> None:
    ball = trimesh.creation.icosphere(subdivisions=7)
    cloud = read_pointcloud(ball.export(file_type="ply"))
    assert cloud.nbytes == SURFACE_POINTS * 24
