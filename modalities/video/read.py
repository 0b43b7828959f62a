"""Read a clip from any supported source. File formats are recognised by content."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.errors import BadSample
from modalities.common.reading.any_source import beginning, read_any
from modalities.common.reading.local_file import demand_beside, demand_file
from modalities.common.reading.video_file import CONTAINERS, HEAD, container
from modalities.video.formats import arrays, masks, pictures, video_file
from modalities.video.parts import Part, split_part
from modalities.video.sample import Clip, check_clip

MAX_BYTES = 1 << 30
"""Largest size of a file that is read into memory."""

WANTED = f"a video: {CONTAINERS}, GIF, WebP, NPZ or a folder of pictures"


@np.errstate(all="ignore")  # NaN, infinities and values beyond a type are refused by the checks at the end
def read_video(source: Any) -> Clip:
    """Read one clip in colour, at regular times.

    Of a long clip 256 frames are kept, uniformly spaced; of large frames the shorter side is reduced to 256 pixels.

    Args:
        source: A path or the bytes of a video (AVI, MP4, MOV, MKV, WebM, MPEG, FLV), of a GIF or animated WebP, or of
            an NPZ with `frames` and `rate`, and optionally `labels` and `table`; the path of a folder of pictures, 24 a
            second; a mapping of such arrays; or a `Clip`. A path may name a part of a clip, see `split_part`; masks
            beside the file become its trajectories, see `formats/masks.py`.

    Raises:
        BadSample: it is no video, is damaged or too large, or its segment ids do not fit its frames.

    Example:
        >>> clip = read_video({"frames": np.zeros((20, 64, 80, 3), np.uint8), "rate": 10})
        >>> clip.frames.shape, clip.seconds
        ((20, 64, 80, 3), 2.0)
    """
    if isinstance(source, Clip):
        return check_clip("clip", source)
    name, clip = _open(source)
    return check_clip(name, clip)


def _open(source: Any) -> tuple[str, Clip]:
    expected = "a path, bytes, or a mapping with frames and rate"
    return read_any(
        source,
        kind="video",
        expected=expected,
        path=_from_path,
        data=_from_bytes,
        mapping=arrays.from_mapping,
        most=MAX_BYTES,
    )


def _from_path(path: Path) -> Clip:
    name = str(path)
    path, part = split_part(path)
    head = b""
    if not path.is_dir():
        demand_file(path, WANTED)
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    if container(head):
        clip, window = video_file.parse(path, name, part)  # not read into memory
    elif path.is_dir():
        clip, window = cut(pictures.from_folder(path), part, name)
    else:
        demand_file(path, WANTED, most=MAX_BYTES)
        clip, window = cut(_from_bytes(path.read_bytes(), name), part, name)
    files = masks.mask_files(path) if clip.tracks is None else []
    for file in files:
        demand_beside(file, path)
    return masks.with_masks(clip, files, window) if files else clip


def _from_bytes(data: bytes, name: str) -> Clip:
    if container(data[:HEAD]):
        return video_file.parse(data, name)[0]
    if pictures.is_animation(data[:HEAD]):
        return pictures.from_animation(data, name)
    if data.startswith(b"PK\x03\x04"):
        return arrays.from_npz(data, name)
    raise BadSample(name, WANTED, beginning(data))


def cut(clip: Clip, part: Part | None, source: str) -> tuple[Clip, tuple[float, float]]:
    """The frames of a part, with their trajectories, and the part as fractions of the duration.

    Raises:
        BadSample: it begins after the end of the clip.
    """
    start, stop = (part or Part()).bounds(clip.seconds, source)
    first = int(start * clip.rate + 1e-6)
    last = max(first + 1, math.ceil(stop * clip.rate - 1e-6))
    tracks = None if clip.tracks is None else clip.tracks.at(np.arange(first, min(last, len(clip))))
    shown = replace(clip, frames=clip.frames[first:last], tracks=tracks) if part else clip
    return shown, (start / clip.seconds, stop / clip.seconds)
