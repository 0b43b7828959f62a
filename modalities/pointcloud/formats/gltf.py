"""glTF: a GLB or a glTF file with its data inside, checked and stripped of all that is not geometry."""

import json
import struct
from typing import Any

from mmalign.errors import BadSample
from modalities.pointcloud.formats.limits import check_rows

MAX_NODES = 1 << 16
MAX_JSON = 1 << 25
KEPT = ("asset", "scene", "scenes", "nodes", "meshes", "accessors", "bufferViews", "buffers", "materials")
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}


def geometry_alone(data: bytes, name: str) -> tuple[bytes, str]:
    """The same scene without textures, animations and extensions, checked.

    Args:
        data: A GLB, or a glTF file in JSON whose buffers are `data:` URIs.
        name: Its name for messages.

    Returns:
        The bytes, and their type: glb or gltf.

    Raises:
        BadSample: it refers to another file, is compressed, or declares what it does not hold.
    """
    binary = data.startswith(b"glTF")
    chunks = _chunks(data, name) if binary else [(b"JSON", data)]
    if not chunks or chunks[0][0] != b"JSON" or len(chunks[0][1]) > MAX_JSON:
        raise BadSample(name, f"a JSON part of at most {MAX_JSON} bytes", "none, or a larger one")
    try:
        tree = json.loads(chunks[0][1])
        checked = _checked(tree, sum(len(chunk) for _, chunk in chunks[1:]), name)
    except BadSample:
        raise
    except Exception as error:  # a malformed tree raises arbitrary exceptions
        raise BadSample(name, "a glTF scene", f"a damaged one ({type(error).__name__})") from error
    text = json.dumps(checked).encode()
    if not binary:
        return text, "gltf"
    text += b" " * (-len(text) % 4)
    parts = [(b"JSON", text), *chunks[1:]]
    body = b"".join(struct.pack("<I4s", len(chunk), kind) + chunk for kind, chunk in parts)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body, "glb"


def _chunks(data: bytes, name: str) -> list[tuple[bytes, bytes]]:
    if len(data) < 12 or struct.unpack_from("<I", data, 4)[0] != 2:
        raise BadSample(name, "a GLB file of version 2", "a shorter one, or another version")
    chunks, at = [], 12
    while at + 8 <= len(data):
        size, kind = struct.unpack_from("<I4s", data, at)
        if at + 8 + size > len(data):
            raise BadSample(name, f"a part of {size} bytes, as it declares", f"{len(data) - at - 8}")
        chunks.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size
    return chunks


def _checked(tree: dict[str, Any], held: int, name: str) -> dict[str, Any]:
    for needed in tree.get("extensionsRequired", []):
        raise BadSample(name, "a glTF file that needs no extension", f"one that requires {str(needed)[:40]!r}")
    for buffer in tree.get("buffers", []):
        uri = buffer.get("uri")
        if uri is not None and not str(uri).startswith("data:"):
            raise BadSample(name, "buffers inside the file", "a buffer in another file: export as GLB")
        held += len(uri or "") * 3 // 4
    _check_tree(tree, name)
    for accessor in tree.get("accessors", []):
        check_rows(accessor["count"], "rows of an accessor", name)
        size = accessor["count"] * WIDTHS[accessor["type"]] * BYTES[accessor["componentType"]]
        # An accessor without a view is zeros, which a few bytes can declare in any number.
        if size > held or ("bufferView" not in accessor and accessor["count"]):
            raise BadSample(name, f"an accessor of {size} bytes, as it declares", f"{held} bytes of data")
    allowed: dict[str, Any] = {key: tree[key] for key in KEPT if key in tree}
    allowed["materials"] = [_colour(material) for material in tree.get("materials", [])]
    return allowed


def _check_tree(tree: dict[str, Any], name: str) -> None:
    """Each node has one parent, as the standard demands: no circles, and no meshes in exponential number."""
    nodes = tree.get("nodes", [])
    children = [child for node in nodes for child in node.get("children", [])]
    below = set(children)
    if len(nodes) > MAX_NODES or len(below) != len(children):
        raise BadSample(name, f"a tree of at most {MAX_NODES} nodes", f"{len(nodes)} nodes, or one with two parents")
    seen, left = set(), [node for node in range(len(nodes)) if node not in below]
    while left:
        node = left.pop()
        seen.add(node)
        left += nodes[node].get("children", [])
    if len(seen) != len(nodes):
        raise BadSample(name, "a tree of nodes", "a circle of nodes")
    counts = [accessor["count"] for accessor in tree.get("accessors", [])]
    meshes = [
        sum(counts[part["indices"]] if "indices" in part else counts[part["attributes"]["POSITION"]]
            for part in mesh["primitives"])
        for mesh in tree.get("meshes", [])
    ]  # fmt: skip
    check_rows(sum(meshes[node["mesh"]] for node in nodes if "mesh" in node), "corners in the scene", name)


def _colour(material: dict[str, Any]) -> dict[str, Any]:
    shading = material.get("pbrMetallicRoughness", {})
    if "baseColorFactor" not in shading or "baseColorTexture" in shading:
        return {}
    return {"pbrMetallicRoughness": {"baseColorFactor": shading["baseColorFactor"]}}
