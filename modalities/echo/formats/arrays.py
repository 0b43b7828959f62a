"""Arrays that state their frame rate: NPY, NPZ, mappings -> `Echo`.

- NPZ, or a mapping: `frames` uint8 `(time, height, width)`, or with three colours last, and `rate` in frames a second.
- NPY: the frames alone; a file of the same name beside it that ends in `.json` states `{"rate": 50}`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample, MissingFile
from modalities.common.reading.local_file import demand_beside, is_file
from modalities.common.reading.npy import archive_arrays, array_from
from modalities.common.reading.numbers import stated_number
from modalities.echo.sample import MAX_VALUES, Echo, check_rate, check_size

ADVICE = 'frames (time, height, width) of uint8 and their rate: {"frames": array, "rate": 50}'
LUMA = (0.299, 0.587, 0.114)
"""Luma weights of red, green and blue: ITU-R BT.601, as in DICOM and JPEG."""


def from_mapping(mapping: Mapping[Any, Any], source: str) -> Echo:
    """Parse a mapping with `frames` and `rate`; both are required."""
    missing = [name for name in ("frames", "rate") if mapping.get(name) is None]
    if missing:
        raise BadSample(source, ADVICE, f"no {missing[0]}")
    try:
        frames = np.asarray(mapping["frames"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadSample(source, ADVICE, "frames that are no array") from error
    if frames.dtype != np.uint8 or not (frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] == 3)):
        raise BadSample(source, ADVICE, f"frames {frames.shape} of {frames.dtype}")
    check_size(source, *frames.shape[:3])
    rate = stated_number(mapping["rate"], "a rate in frames a second", source)
    frames = np.stack([grey_of(frame) for frame in frames]) if frames.ndim == 4 else frames
    return Echo(np.ascontiguousarray(frames), check_rate(source, rate))


def grey_of(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of RGB frames, `(height, width, 3)` -> `(height, width)`.

    Example:
        >>> grey_of(np.array([[[255, 0, 0], [7, 7, 7]]], np.uint8))
        array([[76,  7]], dtype=uint8)
    """
    # Integers in units of 1/65536: the weights sum exactly to one, so that grey is unchanged.
    red, green, blue = (frame[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)


def from_npy(path: Path, data: bytes) -> Echo:
    """An array by its path, with its `.json` file."""
    sidecar = path.with_suffix(".json")
    if not is_file(sidecar):
        raise MissingFile(path, f'the rate in {sidecar.name}: {{"rate": 50}}', "no such file")
    demand_beside(sidecar, path)
    try:
        stated = json.loads(sidecar.read_bytes()[: 1 << 20])
        if not isinstance(stated, dict):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise BadSample(sidecar, '{"rate": 50}', "no JSON object") from error
    return from_mapping({"frames": array_from(data, path), "rate": stated.get("rate")}, str(path))


def from_npz(data: bytes, source: str) -> Echo:
    """An archive with `frames` and `rate`."""
    arrays = archive_arrays(data, ("frames", "rate"), source, most=3 * MAX_VALUES, small=("rate",))
    return from_mapping(arrays, source)
