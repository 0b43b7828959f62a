"""GIF, animated WebP and folders of pictures -> `Clip`, by Pillow."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.picture_log import quiet_pictures
from modalities.image.read import MAX_PIXELS, read_image
from modalities.video.bounds import bounded, sampled
from modalities.video.clock import regular
from modalities.video.sample import MIN_SIDE, Clip, check_rate

MAX_PICTURES = 1 << 14
"""Maximum number of pictures of an animation or a folder."""

MAX_DECODED = 1 << 33
"""Maximum number of pixels of an animation, which is always decoded whole: 8,000 pictures of 1024 x 1024."""

NO_DURATION = 0.1
"""Seconds that a picture is shown whose duration is 0, as browsers do."""

FOLDER_RATE = 24.0
"""Frames per second of a folder of pictures, as in DAVIS."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")


def is_animation(head: bytes) -> bool:
    """Whether a file's first bytes are those of GIF or WebP.

    Example:
        >>> is_animation(b"GIF89a"), is_animation(b"RIFF0000WEBPVP8X"), is_animation(b"RIFF0000AVI ")
        (True, True, False)
    """
    return head[:6] in (b"GIF87a", b"GIF89a") or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def from_animation(data: bytes, source: str) -> Clip:
    """Decode GIF or WebP over white, at a constant rate.

    Raises:
        BadSample: it is damaged or too large.
    """
    from PIL import Image

    try:
        with quiet_pictures, Image.open(io.BytesIO(data), formats=("GIF", "WEBP")) as image:
            return _animation(image, source)
    except BadSample:
        raise
    except Exception as error:  # decoders of damaged bytes raise anything
        raise BadSample(source, "a GIF or WebP animation", f"a damaged one ({type(error).__name__})") from error


def _animation(image: Any, source: str) -> Clip:
    width, height = image.size
    count = int(getattr(image, "n_frames", 1))
    if count > MAX_PICTURES or count * width * height > MAX_DECODED or width * height > MAX_PIXELS:
        raise BadSample(source, f"at most {MAX_DECODED} pixels", f"{count} pictures of {width} x {height}")
    if min(width, height) < MIN_SIDE:
        raise BadSample(source, f"pictures of at least {MIN_SIDE} pixels a side", f"{width} x {height}")
    seconds = []
    for index in range(count):
        image.seek(index)
        image.load()  # the duration of a WebP picture is known once it is decoded
        seconds.append(float(image.info.get("duration") or 0) / 1000 or NO_DURATION)
    ends = np.cumsum(seconds)
    indices, rate = regular(ends - seconds, float(ends[-1]))
    pictures: dict[int, NDArray[np.uint8]] = {}
    for index in sorted(set(indices.tolist())):
        image.seek(index)
        pictures[index] = bounded(_over_white(image.convert("RGBA"))[None], 1.0, None).frames[0]
    return Clip(np.stack([pictures[index] for index in indices.tolist()]), check_rate(source, rate))


def _over_white(picture: Any) -> NDArray[np.uint8]:
    from PIL import Image

    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order: 2.jpg before 10.jpg."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(files, key=lambda path: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name)])


def from_folder(folder: Path) -> Clip:
    """Read the pictures of a folder in natural order, at `FOLDER_RATE`.

    Raises:
        BadSample: there are none, too many, or their sizes differ.
    """
    files = pictures_in(folder)
    if not 1 <= len(files) <= MAX_PICTURES:
        raise BadSample(folder, f"a folder of 1 to {MAX_PICTURES} pictures", str(len(files)))
    indices = sampled(len(files))
    frames: list[NDArray[np.uint8]] = []
    size: tuple[int, ...] = ()
    for index in indices.tolist():
        if not files[index].resolve().is_relative_to(folder.resolve()):
            raise BadSample(files[index], "a picture inside its folder", "a link that leaves it")
        pixels = read_image(files[index])
        size = size or pixels.shape
        if pixels.shape != size or min(size[:2]) < MIN_SIDE:
            raise BadSample(
                files[index], f"pictures of one size of at least {MIN_SIDE} pixels a side", f"{pixels.shape}"
            )
        frames.append(bounded(pixels[None], 1.0, None).frames[0])
    return Clip(np.stack(frames), FOLDER_RATE * len(indices) / len(files))
