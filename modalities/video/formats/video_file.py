"""Video files -> frames at a constant rate; of a long file only the frames that are kept are decoded, by seeking."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.video_file import LOST, missing_frames, opened, pixels_of, upright
from modalities.video.bounds import reduced_size
from modalities.video.clock import regular
from modalities.video.parts import Part
from modalities.video.sample import MAX_FRAMES, MIN_SIDE, Clip, check_rate

MAX_PIXELS = 1 << 25
"""Largest frame, in pixels: 8K video has 7680 x 4320."""

MAX_PACKETS = 1 << 21
"""Maximum number of frames of a file: 11 hours at 50 frames a second."""

MAX_DECODED = 1 << 36
"""Maximum number of pixels that are decoded of a file: 33,000 frames of 1920 x 1080."""

DENSE = 4 * MAX_FRAMES
"""Of a file of up to this many frames every kept frame is exact; of a longer one the nearest key frame may stand in."""


@dataclass(frozen=True)
class Timeline:
    """What a file holds, read without decoding.

    Args:
        starts: Time stamp of each shown frame in the stream's ticks, ascending, `(frames,)`.
        end: When the last one disappears, in ticks.
        keys: Time stamps of key frames, ascending.
        seeks: The tick to seek to for each key frame.
    """

    starts: NDArray[np.int64]
    end: int
    keys: NDArray[np.int64]
    seeks: NDArray[np.int64]

    def cost(self, wanted: NDArray[np.int64]) -> int:
        """Number of frames to decode for these time stamps, ascending: from the key frame before each."""
        before = np.maximum(np.searchsorted(self.keys, wanted, side="right") - 1, 0)
        first = np.searchsorted(self.starts, self.keys[before]) if len(self.keys) else np.zeros(len(wanted), np.int64)
        last = np.searchsorted(self.starts, wanted, side="right")
        begin = np.maximum(first, np.append(0, last[:-1]))
        return int(np.maximum(last - begin, 0).sum())


def parse(data: bytes | PathLike[str], source: str, part: Part | None = None) -> tuple[Clip, tuple[float, float]]:
    """Decode the video stream at a constant rate, reduced in size, at most `MAX_FRAMES` frames.

    Args:
        data: The file's bytes or its path.
        source: Origin of the file, for messages.
        part: The part to read; None = all.

    Returns:
        The clip, and the part as fractions of the duration.

    Raises:
        BadSample: it is damaged, truncated, too large, or has no video.
        UserError: PyAV is not installed.
    """
    film = decode(data, source, part, _colours)
    return Clip(np.stack(film.pictures), check_rate(source, film.rate), faults=film.faults), film.fractions


Picture = Callable[[Any, Any, str], NDArray[Any]]
"""What is kept of a frame: PyAV's frame and stream, and the source -> `(height, width, ...)`."""


@dataclass(frozen=True)
class Decoded:
    """What is kept of each frame, frames per second, faults, and the part as fractions of the duration."""

    pictures: list[NDArray[Any]]
    rate: float
    faults: tuple[str, ...]
    fractions: tuple[float, float]


def decode(data: bytes | PathLike[str], source: str, part: Part | None, picture: Picture) -> Decoded:
    """Decode at a constant rate; the same frames of any two files of equal time stamps. See `parse`."""
    with opened(data, source, extra="video", most_pixels=MAX_PIXELS) as (file, stream):
        timeline = _timeline(file, stream, source)
        faults = _missing(timeline, file, stream, source)
        seconds = float(stream.time_base)
        starts, end, fractions = _cut(timeline, part or Part(), seconds, source)
        indices, rate = regular(starts.astype(np.float64) * seconds, end * seconds)
        wanted = starts[indices]
        if len(starts) > DENSE:
            wanted = _nearest_keys(wanted, timeline)
        pixels = stream.codec_context.width * stream.codec_context.height
        if timeline.cost(wanted) * pixels > MAX_DECODED:
            raise BadSample(
                source, f"at most {MAX_DECODED} pixels to decode", f"{timeline.cost(wanted)} frames between key frames"
            )
        return Decoded(_Reader(file, stream, timeline, source, picture).read(wanted), rate, faults, fractions)


def _cut(
    timeline: Timeline, part: Part, seconds: float, source: str
) -> tuple[NDArray[np.int64], int, tuple[float, float]]:
    """Time stamps in a part, when its last frame disappears, and the part as fractions of the duration."""
    starts, origin = timeline.starts, int(timeline.starts[0])
    duration = (timeline.end - origin) * seconds
    start, stop = part.bounds(duration, source)
    first = max(int(np.searchsorted(starts, origin + start / seconds + 0.5, side="right")) - 1, 0)
    last = max(int(np.searchsorted(starts, origin + stop / seconds - 0.5)), first + 1)
    end = int(starts[last]) if last < len(starts) else timeline.end
    return starts[first:last], end, (start / duration, stop / duration)


def _timeline(file: Any, stream: Any, source: str) -> Timeline:
    """Read the time stamps of all packets."""
    starts, keys, lengths = [], [], {}
    for packet in file.demux(stream):
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or not packet.size:  # the end, or a frame that was dropped while recording
            continue
        if packet.is_keyframe:
            # Cues of Matroska are times of display, other containers seek by the time of decoding.
            by_display = packet.dts is None or file.format.name.startswith("matroska")
            keys.append((stamp, stamp if by_display else packet.dts))
        if not packet.is_discard:  # outside of the edit list
            starts.append(stamp)
            lengths[stamp] = packet.duration
        if len(starts) > MAX_PACKETS:
            raise BadSample(source, f"at most {MAX_PACKETS} frames", "more")
    if not starts:
        raise BadSample(source, "a video with frames", "one without")
    shown = np.unique(np.array(starts, np.int64))
    last = int(shown[-1])
    step = round(float(np.median(np.diff(shown)))) if len(shown) > 1 else _one_step(stream)
    ordered = np.array(sorted(keys), np.int64).reshape(-1, 2)
    return Timeline(shown, last + max(lengths[last] or step, 1), ordered[:, 0], ordered[:, 1])


def _missing(timeline: Timeline, file: Any, stream: Any, source: str) -> tuple[str, ...]:
    """Compare the duration that the header states with the time stamps, in frames; edit lists change the count alone.

    Raises:
        BadSample: more than a few frames are missing.
    """
    stated = stream.duration
    if stated is None and len(file.streams) == 1 and file.duration:  # Matroska states that of all streams together
        stated = round(file.duration / (1_000_000 * stream.time_base))
    count = len(timeline.starts)
    if stated is None or count < 2:
        return ()
    covered = timeline.end - min(0, int(timeline.starts[0]))
    step = float(np.median(np.diff(timeline.starts)))
    return missing_frames(count, count + int((stated - covered) / step), source)


def _one_step(stream: Any) -> int:
    """How long a single frame is shown, in ticks, where the file does not state it."""
    return round(1 / (stream.average_rate * stream.time_base)) if stream.average_rate else 1


def _nearest_keys(wanted: NDArray[np.int64], timeline: Timeline) -> NDArray[np.int64]:
    """Of a long video: the key frame nearest to each time, where one lies within half an interval of it."""
    keys = np.intersect1d(timeline.keys, timeline.starts)
    if not len(keys):
        return wanted
    right = np.searchsorted(keys, wanted).clip(0, len(keys) - 1)
    left = np.maximum(right - 1, 0)
    near = np.where(np.abs(keys[left] - wanted) <= np.abs(keys[right] - wanted), keys[left], keys[right])
    half = (timeline.end - int(timeline.starts[0])) / len(wanted) / 2
    return np.where(np.abs(near - wanted) <= half, near, wanted)


class _SeekFailed(Exception):
    """Seeking led elsewhere: the index of the file is wrong or missing."""


class _Reader:
    """Decode the frames that are shown at ascending time stamps.

    Args:
        file: PyAV's container.
        stream: Its stream.
        timeline: Its time stamps.
        source: Origin of the file, for messages.
        picture: What is kept of a frame.
    """

    def __init__(self, file: Any, stream: Any, timeline: Timeline, source: str, picture: Picture) -> None:
        self.file, self.stream, self.timeline, self.source, self.picture = file, stream, timeline, source, picture

    def read(self, wanted: NDArray[np.int64]) -> list[NDArray[Any]]:
        """The frames at these times."""
        sparse = len(self.timeline.starts) > DENSE
        if sparse and len(self.timeline.keys):
            try:
                return self._by_seeking(wanted)
            except _SeekFailed:
                pass
        if sparse and len(self.timeline.starts) * self.stream.width * self.stream.height > MAX_DECODED:
            raise BadSample(self.source, "a long video with an index", "one in which seeking fails")
        self._seek(0)
        return list(self._shown_at(wanted, self._decoded()))

    def _by_seeking(self, wanted: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Seek once for each group of times that follow the same key frame."""
        group = np.maximum(np.searchsorted(self.timeline.keys, wanted, side="right") - 1, 0)
        frames: list[NDArray[Any]] = []
        for key in np.unique(group):
            self._seek(int(self.timeline.seeks[key]))
            frames += self._shown_at(wanted[group == key], self._decoded(int(self.timeline.keys[key])))
        return frames

    def _seek(self, tick: int) -> None:
        self.file.seek(tick, stream=self.stream)

    def _decoded(self, key: int | None = None) -> Iterator[tuple[int, Any]]:
        """Time stamps and frames in the order shown; after seeking, from the key frame of this time stamp.

        Raises:
            _SeekFailed: that key frame does not come.
        """
        starts = self.timeline.starts
        first = 0 if key is None else int(np.searchsorted(starts, key))
        # AVI has no times of display: frames that were reordered carry those of others, so they are counted.
        counted = self.file.format.name == "avi"
        for number, frame in enumerate(self._from_key(key)):
            yield (
                int(starts[min(first + number, len(starts) - 1)]) if counted or frame.pts is None else frame.pts,
                frame,
            )

    def _from_key(self, key: int | None) -> Iterator[Any]:
        import av

        started = key is None
        for packet in self.file.demux(self.stream):
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except av.error.FFmpegError:
                if started:
                    raise
                continue  # pictures before the key frame may refer to others that were not read
            for frame in frames:
                if key is not None and not started and frame.pts is not None and frame.pts > key:
                    raise _SeekFailed
                started = started or frame.pts == key
                if started:
                    yield frame
        if not started:
            raise _SeekFailed

    def _shown_at(self, wanted: NDArray[np.int64], decoded: Iterator[tuple[int, Any]]) -> Iterator[NDArray[Any]]:
        """The last frame that appears at or before each time.

        Raises:
            BadSample: it is damaged, or several frames are missing.
        """
        shown, since, position = None, 0, 0
        for stamp, frame in decoded:
            if frame.is_corrupt:
                raise BadSample(self.source, "a readable video", "a damaged frame")
            ready = position
            while shown is not None and ready < len(wanted) and stamp > wanted[ready]:
                ready += 1
            if ready > position:
                yield from self._pictures(shown, since, wanted[position:ready])
                position = ready
            if position == len(wanted):
                return
            shown, since = frame, stamp
        if shown is None:
            raise BadSample(self.source, "a video with frames", "one without")
        yield from self._pictures(shown, since, wanted[position:])

    def _pictures(self, frame: Any, stamp: int, wanted: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """The picture of a frame, once for each time at which it is shown."""
        missing = int(np.searchsorted(self.timeline.starts, wanted[-1]) - np.searchsorted(self.timeline.starts, stamp))
        if missing > LOST:
            raise BadSample(self.source, "a frame for each time stamp", f"{missing} missing ones in a row")
        picture = self.picture(frame, self.stream, self.source)
        yield from (picture for _ in wanted)


def _colours(frame: Any, stream: Any, source: str) -> NDArray[np.uint8]:
    """Red, green, blue, upright, with square pixels, reduced in size."""
    if min(frame.width, frame.height) < MIN_SIDE:
        raise BadSample(source, f"frames of at least {MIN_SIDE} pixels a side", f"{frame.width} x {frame.height}")
    ratio = float(stream.sample_aspect_ratio or 1)
    width = round(frame.width * ratio) if 0.1 <= ratio <= 10 else frame.width
    height, width = reduced_size(frame.height, width)
    return upright(pixels_of(frame, format="rgb24", width=width, height=height, interpolation="AREA"), frame)
