"""Frames in arrays: NPZ files and mappings -> `Clip`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.npy import archive_arrays
from modalities.common.reading.numbers import stated_number
from modalities.video.bounds import bounded, sampled
from modalities.video.sample import MIN_SIDE, Clip, Tracks, check_rate

ADVICE = 'frames (time, height, width, 3) of uint8 and their rate: {"frames": array, "rate": 25}'

MAX_BYTES = 1 << 29
"""Largest size of one array."""


def from_npz(data: bytes, source: str) -> Clip:
    """An archive with `frames`, `rate` and, where objects are known, `labels` and `table`."""
    names = ("frames", "rate", "labels", "table")
    return from_mapping(archive_arrays(data, names, source, most=MAX_BYTES, small=("rate",)), source)


def from_mapping(mapping: Mapping[Any, Any], source: str) -> Clip:
    """Parse a mapping with `frames` and `rate`; both are required.

    Frames are colour, or grey without the last dimension. `labels` are segment ids `(time, height, width)`, of the same
    ids in all frames unless a `table (trajectories, time)` links them, see `Tracks`.

    Raises:
        BadSample: one is missing or not as described.
    """
    missing = [name for name in ("frames", "rate") if mapping.get(name) is None]
    if missing:
        raise BadSample(source, ADVICE, f"no {missing[0]}")
    frames = _array(mapping["frames"], "frames", source)
    if frames.dtype != np.uint8 or not (frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] == 3)):
        raise BadSample(source, ADVICE, f"frames {frames.shape} of {frames.dtype}")
    if not len(frames) or min(frames.shape[1:3]) < MIN_SIDE:
        raise BadSample(source, f"frames of at least {MIN_SIDE} pixels a side", f"shape {frames.shape}")
    rate = _rate(mapping["rate"], source)
    tracks = None
    if mapping.get("labels") is not None:
        labels = _array(mapping["labels"], "labels", source)
        table = None if mapping.get("table") is None else _array(mapping["table"], "table", source)
        if labels.shape[:1] != frames.shape[:1]:
            raise BadSample(source, f"labels of {len(frames)} frames", f"shape {labels.shape}")
        tracks = make_tracks(labels, table, source)
    elif mapping.get("table") is not None:
        raise BadSample(source, "labels beside the table", "a table alone")
    indices = sampled(len(frames))
    frames = frames if len(indices) == len(frames) else frames[indices]
    frames = np.repeat(frames[..., None], 3, axis=3) if frames.ndim == 3 else frames
    if tracks is not None and len(indices) < len(tracks.labels):
        tracks = tracks.at(indices)
    return bounded(frames, rate * len(indices) / len(mapping["frames"]), tracks)


def make_tracks(labels: NDArray[Any], table: NDArray[Any] | None, source: str) -> Tracks:
    """Segment ids and, where they are per frame, the table that links them, checked.

    Raises:
        BadSample: they are no integers from 0 to 2^31 - 1, their shapes do not fit, or an id exceeds the table's.
    """
    if labels.ndim != 3 or not labels.size:
        raise BadSample(source, "labels of shape (time, height, width)", f"shape {labels.shape}")
    labels = _ids(labels, "labels", source)
    if table is None:
        return Tracks.from_labels(labels)
    if table.ndim != 2 or table.shape[1] != len(labels):
        raise BadSample(source, f"a table of shape (trajectories, {len(labels)})", f"shape {table.shape}")
    table = _ids(table, "table", source)
    if labels.max() > table.max(initial=0):
        raise BadSample(
            source, f"segment ids up to {table.max(initial=0)}, the largest of the table", str(labels.max())
        )
    return Tracks(labels, table)


def _ids(values: NDArray[Any], name: str, source: str) -> NDArray[np.int32]:
    if values.dtype.kind not in "biu":
        raise BadSample(source, f"integers in {name}", f"values of type {values.dtype}")
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if not 0 <= low <= high < 1 << 31:
        raise BadSample(source, f"ids in 0..2147483647 in {name}", f"{low}..{high}")
    return values.astype(np.int32, copy=False)


def _array(values: Any, name: str, source: str) -> NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadSample(source, ADVICE, f"{name} that are no array") from error


def _rate(rate: Any, source: str) -> float:
    return check_rate(source, stated_number(rate, "a rate in frames a second", source))
