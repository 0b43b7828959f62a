"""WFDB headers: https://physionet.org/physiotools/wag/header-5.htm."""

import re
from dataclasses import dataclass

from mmalign.errors import BadSample

MAX_SEGMENTS = 10_000
"""Maximum number of segments of a record."""

_GAIN = re.compile(r"^([-+.\deE]+)(?:\((-?\d+)\))?(?:/(\S+))?$")
_FORMAT = re.compile(r"^(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
_DEFAULT_GAIN = 200.0  # converter units per millivolt, if the header has none
_GAINS = (1e-12, 1e12)  # beyond them is no converter: values divided by smaller ones are no finite numbers
_MOST = 1 << 53  # larger integers are no converter values, and float64 does not hold them


@dataclass(frozen=True)
class Signal:
    """One signal as the header describes it.

    Args:
        file: Name of its file.
        format: Storage format.
        per_frame: Samples per frame: its rate is the record's times this.
        skewed: Whether it is shifted against the other signals.
        offset: Bytes before its samples.
        gain: Converter units per physical unit.
        baseline: Converter value of zero.
        units: Physical unit.
        checksum: Sum of its samples modulo 65536, None if not stated.
        name: Its description, such as a lead.
    """

    file: str
    format: str
    per_frame: int
    skewed: bool
    offset: int
    gain: float
    baseline: int
    units: str
    checksum: int | None
    name: str


@dataclass(frozen=True)
class Header:
    """A record as its header describes it.

    Args:
        rate: Frames a second.
        frames: Number of frames, None if not stated.
        segments: Name and number of frames of each segment; empty for a record of one.
        signals: Empty for a record of several segments.
    """

    rate: float
    frames: int | None
    segments: tuple[tuple[str, int], ...]
    signals: tuple[Signal, ...]


def read_header(text: bytes, source: str) -> Header:
    """Parse a header; comments, which contain age, sex and diagnoses, are skipped.

    Raises:
        BadSample: it is damaged, or lists fewer signals or segments than it states.
    """
    try:
        return _parsed(text)
    except (ValueError, IndexError, AttributeError) as error:
        raise BadSample(source, "a WFDB header", "a damaged one") from error


def _parsed(text: bytes) -> Header:
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    record = lines[0].split()
    rate = float(re.split(r"[/(]", record[2])[0]) if len(record) > 2 else 250.0
    frames = int(record[3]) if len(record) > 3 and int(record[3]) > 0 else None
    _, several, segments = record[0].partition("/")
    count = int(segments) if several else int(record[1])
    if not 0 <= count < len(lines) or (several and not 0 < count <= MAX_SEGMENTS):
        raise ValueError
    if several:
        pairs = [line.split()[:2] for line in lines[1 : 1 + count]]
        return Header(rate, frames, tuple((name, int(length)) for name, length in pairs), ())
    return Header(rate, frames, (), tuple(_signal(line) for line in lines[1 : 1 + count]))


def _signal(line: str) -> Signal:
    words = line.split(maxsplit=8)
    kind, per_frame, skew, offset = _FORMAT.match(words[1]).groups()  # type: ignore[union-attr]
    gain, baseline, units = (
        _GAIN.match(words[2]).groups() if len(words) > 2 else ("0", None, None)  # type: ignore[union-attr]
    )
    zero = int(words[4]) if len(words) > 4 else 0
    # First sample and checksum of 0: what writers put that compute neither.
    unstated = len(words) > 6 and int(words[5]) == int(words[6]) == 0
    signal = Signal(
        file=words[0],
        format=kind,
        per_frame=int(per_frame or 1),
        skewed=int(skew or 0) > 0,
        offset=int(offset or 0),
        gain=float(gain) or _DEFAULT_GAIN,
        baseline=zero if baseline is None else int(baseline),
        units=units or "mV",
        checksum=int(words[6]) if len(words) > 6 and not unstated else None,
        name=words[8] if len(words) > 8 else "",
    )
    if not (0 < signal.per_frame < _MOST and abs(signal.baseline) < _MOST and _GAINS[0] < abs(signal.gain) < _GAINS[1]):
        raise ValueError
    return signal
