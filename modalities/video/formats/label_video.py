"""Label videos: the grey level of a pixel is the id of its object, the same in all frames."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.video_file import pixels_of, upright
from modalities.video.bounds import reduced_size
from modalities.video.formats.video_file import decode

SUFFIXES = (".mkv", ".mov", ".mp4", ".avi")

CODECS = ("ffv1", "png", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "zlib")
"""Codecs that are always lossless; others may smooth the edges, where ids would be those of other objects."""

GREYS = {"gray": np.uint8, "gray16le": np.uint16, "gray16be": np.uint16}
"""Pixel formats, and the type of an id."""


def read_labels(path: Path) -> NDArray[Any]:
    """Ids of the pixels of the frames that are read of a clip with the same time stamps; large frames are thinned.

    Args:
        path: AVI, MKV, MOV or MP4.

    Shape:
        Returns `(time, height, width)` uint8 or uint16.

    Raises:
        BadSample: it is damaged, its codec is not known to be lossless, or it has colours.
        UserError: PyAV is not installed.
    """
    ids = decode(path, str(path), None, _ids).pictures
    sizes = {picture.shape for picture in ids}
    if len(sizes) > 1:
        raise BadSample(path, "masks of one size", " and ".join(map(str, sorted(sizes))))
    return np.stack(ids)


def _ids(frame: Any, stream: Any, source: str) -> NDArray[Any]:
    codec = stream.codec_context.name
    if codec not in CODECS:
        raise BadSample(source, f"ids in a lossless codec ({', '.join(CODECS)})", codec)
    if frame.format.name not in GREYS:
        raise BadSample(source, f"ids as grey levels ({', '.join(GREYS)})", frame.format.name)
    ids: NDArray[Any] = pixels_of(frame).astype(GREYS[frame.format.name], copy=False)
    height, width = ids.shape
    reduced = reduced_size(height, width)
    rows, columns = ((np.arange(new) * 2 + 1) * old // (2 * new) for new, old in zip(reduced, ids.shape, strict=True))
    return upright(ids[rows][:, columns], frame)
