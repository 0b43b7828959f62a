"""Read a clip from any supported source. File formats are recognised by content."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from mmalign.errors import BadSample
from modalities.common.local_file import demand_file
from modalities.common.video_file import CONTAINERS, HEAD, container
from modalities.video.formats import arrays, pictures, video_file
from modalities.video.sample import Clip, check_clip

MAX_BYTES = 1 << 30
"""Largest size of a file that is read into memory."""

WANTED = f"a video: {CONTAINERS}, GIF, WebP, NPZ or a folder of pictures"


def read_video(source: Any) -> Clip:
    """Read one clip in colour, at regular times.

    Of a long clip 256 frames are kept, uniformly spaced; of large frames the shorter side is reduced to 256 pixels.

    Args:
        source: A path or the bytes of a video (AVI, MP4, MOV, MKV, WebM, MPEG, FLV), of a GIF or animated WebP, or of
            an NPZ with `frames` and `rate`, and optionally `labels` and `table`; the path of a folder of pictures, 24 a
            second; a mapping of such arrays; or a `Clip`.

    Raises:
        BadSample: it is no video, is damaged or too large, or its segment ids do not fit its frames.

    Example:
        >>> import numpy as np
        >>> clip = read_video({"frames": np.zeros((20, 64, 80, 3), np.uint8), "rate": 10})
        >>> clip.frames.shape, clip.seconds
        ((20, 64, 80, 3), 2.0)
    """
    if isinstance(source, Clip):
        return check_clip("clip", source)
    name, clip = _open(source)
    return check_clip(name, clip)


def _open(source: Any) -> tuple[str, Clip]:
    if isinstance(source, str | PathLike):
        path = Path(source)
        if path.is_dir():
            return str(path), pictures.from_folder(path)
        demand_file(path, WANTED)
        with path.open("rb") as stream:
            head = stream.read(HEAD)
        if container(head):
            return str(path), video_file.parse(path, str(path))  # not read into memory
        demand_file(path, WANTED, most=MAX_BYTES)
        return str(path), _from_bytes(path.read_bytes(), str(path))
    if isinstance(source, bytes | bytearray | memoryview):
        name = f"{len(source)} bytes"
        return name, _from_bytes(bytes(source), name)
    if isinstance(source, Mapping):
        return "mapping", arrays.from_mapping(source, "mapping")
    raise BadSample("video", "a path, bytes, or a mapping with frames and rate", f"a {type(source).__name__}")


def _from_bytes(data: bytes, name: str) -> Clip:
    if container(data[:HEAD]):
        return video_file.parse(data, name)
    if pictures.is_animation(data[:HEAD]):
        return pictures.from_animation(data, name)
    if data.startswith(b"PK\x03\x04"):
        return arrays.from_npz(data, name)
    raise BadSample(name, WANTED, f"a file that begins with {data[:12]!r}" if data else "an empty file")
