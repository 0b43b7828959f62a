"""Read an echocardiogram clip from any supported source. File formats are recognised by content."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.errors import BadSample
from mmalign.safe_io.printable import printable
from modalities.common.reading.any_source import beginning, read_any
from modalities.common.reading.local_file import demand_file
from modalities.common.reading.video_file import CONTAINERS, HEAD, container
from modalities.echo.sample import Echo, check_rate, check_size

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 29
"""Maximum size of a file."""

WANTED = f"an echo cine: DICOM, NPZ, NPY or a video ({CONTAINERS})"


@np.errstate(all="ignore")  # NaN, infinities and values beyond a type are refused by the checks at the end
def read_echo(source: Any, *, strict: bool = False) -> Echo:
    """Read one clip in grey, at regular times; black corners and overlays are unchanged.

    Args:
        source: A path: AVI, MP4, MOV, MKV, WebM, MPEG or FLV, DICOM (its 2D tissue region), NPZ with `frames` and
            `rate`, or NPY with a `.json` beside it. Or the bytes of one of them but NPY; or a mapping
            `{"frames": array, "rate": 50}` with uint8 frames `(time, height, width)` or `(time, height, width, 3)`; or
            an `Echo`.
        strict: Reject clips that would raise a warning: contradicting frame rates or regions in the tags, one or two
            missing frames.

    Raises:
        BadSample: it is a still image, is damaged or too large, or does not state its frame rate.

    Example:
        >>> echo = read_echo({"frames": np.zeros((20, 64, 80), np.uint8), "rate": 50})
        >>> echo.frames.shape, echo.seconds
        ((20, 64, 80), 0.4)
    """
    name, echo = _open(source)
    if echo.faults and strict:
        raise BadSample(name, "a clip without faults", "; ".join(echo.faults))
    if echo.faults and echo is not source:
        log.warning("%s", printable(f"{name}: {'; '.join(echo.faults)}"))
    return echo


def _open(source: Any) -> tuple[str, Echo]:
    from modalities.echo.formats import arrays

    if isinstance(source, Echo):
        check_size("echo", *np.shape(source.frames))
        check_rate("echo", source.rate)
        return "echo", source
    expected = "a path, bytes, or a mapping with frames and rate"
    return read_any(
        source,
        kind="echo",
        expected=expected,
        path=_from_path,
        data=_from_bytes,
        mapping=arrays.from_mapping,
        most=MAX_BYTES,
    )


def _from_path(path: Path) -> Echo:
    from modalities.echo.formats import arrays

    demand_file(path, WANTED, most=MAX_BYTES)
    data = path.read_bytes()
    if data.startswith(b"\x93NUMPY"):
        return arrays.from_npy(path, data)
    return _from_bytes(data, str(path))


def _from_bytes(data: bytes, name: str) -> Echo:
    from modalities.echo.formats import arrays, dicom, video

    if data[128:132] == b"DICM":
        return dicom.parse(data, name)
    if container(data[:HEAD]):
        return video.parse(data, name)
    if data.startswith(b"PK\x03\x04"):
        return arrays.from_npz(data, name)
    raise BadSample(name, WANTED, beginning(data))
