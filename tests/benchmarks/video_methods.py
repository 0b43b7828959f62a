"""The video encoders that the benchmarks compare: arguments and preprocessing of each."""

from collections.abc import Mapping
from typing import Any

from modalities.video import MODALITY

WIDTH = {"width": 96, "depth": 2, "heads": 4}
CELLS = {**WIDTH, "cnn_width": 8, "frequencies": 4, "pool": "mean"}
"""Arguments of trajvit and trajtok; frequencies that fit frames of 64 pixels, as in the recipe `video-text/clip`."""

TOKENS = {**CELLS, "place": "box"}


def patch(size: int) -> int:
    """Side of a patch: 16 pixels, as in the paper, from 112 pixels on."""
    return 16 if size >= 112 else 8 if size >= 48 else 4


def cell(size: int) -> int:
    """Side of a cell of trajvit and trajtok: 4 pixels, as in the paper, from 48 pixels on."""
    return 4 if size >= 48 else 2


def method(encoder: str, args: Mapping[str, Any], **transform: Any) -> dict[str, Any]:
    return {"encoder": encoder, "args": dict(args), "transform": transform}


METHODS: dict[str, dict[str, Any]] = {
    "trajvit masks": method("trajvit", TOKENS, tracks="masks"),
    "trajvit supervoxels": method("trajvit", TOKENS, tracks="supervoxels"),
    "trajvit flow": method("trajvit", TOKENS, tracks="flow"),
    "trajvit grid": method("trajvit", TOKENS, tracks="grid"),
    "trajtok": method("trajtok", CELLS),
    "vit3d": method("vit3d", {**WIDTH, "pool": "mean"}),
    "frames": method("frames", {"tower": "convnet", "args": {"width": 12}, "layers": 0, "pool": "mean"}),
}
REFERENCE = "vit3d"


def tower(name: str, frames: int, size: int) -> dict[str, Any]:
    """Encoder, its arguments and the transform's settings of a method."""
    found = METHODS[name]
    sides = {"vit3d": {"tubelet": [2, patch(size)]}, "trajtok": {"cell": cell(size)}}
    transform = {"frames": frames, "size": size, "cell": cell(size), **found["transform"]}
    return {**found, "args": found["args"] | sides.get(found["encoder"], {}), "transform": transform}


def build(name: str, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Transform and encoder of a method, with random weights."""
    wanted = METHODS[name]["encoder"], tower(name, settings["frames"], settings["size"])["args"]
    transform = MODALITY.transform(*wanted, **settings)
    return transform, MODALITY.encoders[wanted[0]](transform, **wanted[1]).eval()


def count(features: Any) -> int:
    """Tokens that an encoder's layers read of a batch: trajectories, else patches or frames."""
    return int((features.tokens if features.parts is None else features.parts).mask.sum())
