"""WFDB: a header (`.hea`) and its signal files (`.dat`, or `.mat` as in the PhysioNet challenges) -> `Channels`.

The format is that of https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm. The usual storage formats are
decoded here, several times faster than by `wfdb`; a record of several segments or of another format goes to `wfdb`.
"""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample, MissingFile
from mmalign.registry import missing_extra
from modalities.ecg.sample import MAX_VALUES, Channels

SUFFIXES = (".hea", ".dat", ".mat")

_INVALID = {"16": -(2**15), "61": -(2**15), "80": -(2**7), "212": -(2**11), "24": -(2**23), "32": -(2**31)}
"""Storage format -> value of a missing sample."""

_BITS = {"16": 16, "61": 16, "80": 8, "212": 12, "24": 24, "32": 32}
_GAIN = re.compile(r"^([-+.\deE]+)(?:\((-?\d+)\))?(?:/(\S+))?$")
_FORMAT = re.compile(r"^(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
_DEFAULT_GAIN = 200.0  # converter units per millivolt, if the header has none


@dataclass(frozen=True)
class _Signal:
    file: str
    format: str
    plain: bool  # one sample per frame and no skew
    offset: int
    gain: float
    baseline: int
    units: str
    checksum: int | None
    name: str


@dataclass(frozen=True)
class _Header:
    rate: float
    samples: int | None
    segments: bool
    signals: list[_Signal]


def from_path(path: Path) -> Channels:
    """A record by its header, one of its signal files, or its name without a suffix."""
    stem = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    head = stem.with_name(stem.name + ".hea")
    if not head.is_file():
        raise MissingFile(path, f"the header {head.name}, which states rate, gain and leads, beside it", "no such file")

    def fetch(name: str) -> bytes:
        file = head.with_name(name)
        if not file.is_file():
            raise MissingFile(head, f"the signal file {name} beside it", "no such file")
        if file.stat().st_size > MAX_VALUES * 4:
            raise BadSample(file, f"a file of at most {MAX_VALUES * 4} bytes", f"{file.stat().st_size} bytes")
        return file.read_bytes()

    if head.stat().st_size > 1 << 20:
        raise BadSample(head, "a WFDB header", f"{head.stat().st_size} bytes")
    return _parse(head.read_bytes(), fetch, str(head), stem)


def from_files(files: Mapping[Any, Any]) -> tuple[str, Channels]:
    """A record from memory: file names and their bytes, one of them a header."""
    name = next(str(key) for key in files if str(key).endswith(".hea"))

    def fetch(wanted: str) -> bytes:
        if not isinstance(files.get(wanted), bytes):
            raise BadSample(name, f"the signal file {wanted} with it", "no bytes of that name")
        return bytes(files[wanted])

    if not isinstance(files[name], bytes):
        raise BadSample(name, "a header as bytes", f"a {type(files[name]).__name__}")
    return name, _parse(files[name], fetch, name, None)


def _parse(text: bytes, fetch: Callable[[str], bytes], source: str, stem: Path | None) -> Channels:
    try:
        header = _read_header(text)
    except (ValueError, IndexError, AttributeError) as error:
        raise BadSample(source, "a WFDB header", "a damaged one") from error
    others = {signal.format for signal in header.signals} - set(_BITS)
    if header.segments or others or not all(signal.plain for signal in header.signals):
        return _by_wfdb(source, stem)
    if not header.signals:
        raise BadSample(source, "a WFDB record with signals", "one without")
    rows: list[NDArray[Any]] = []
    faults: list[str] = []
    for file in dict.fromkeys(signal.file for signal in header.signals):
        group = [signal for signal in header.signals if signal.file == file]
        if "/" in file or "\\" in file or file in ("", ".", "..", "-", "~"):
            raise BadSample(source, "signal files beside the header", f"the name {file[:60]!r}")
        rows += _decode(group, fetch(file), header.samples, f"{source} ({file})", faults)
    if len({row.size for row in rows}) != 1:
        raise BadSample(source, "signals of one length", "several lengths")
    names, units = [signal.name for signal in header.signals], [signal.units for signal in header.signals]
    return Channels(np.stack(rows), header.rate, names, units, tuple(faults))


def _read_header(text: bytes) -> _Header:
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]  # comments contain age, sex and diagnoses
    record = lines[0].split()
    rate = float(re.split(r"[/(]", record[2])[0]) if len(record) > 2 else 250.0
    samples = int(record[3]) if len(record) > 3 and int(record[3]) > 0 else None
    if "/" in record[0]:
        return _Header(rate, samples, True, [])
    return _Header(rate, samples, False, [_read_signal(line) for line in lines[1 : 1 + int(record[1])]])


def _read_signal(line: str) -> _Signal:
    words = line.split(maxsplit=8)
    name = words[8] if len(words) > 8 else ""
    kind, frames, skew, offset = _FORMAT.match(words[1]).groups()  # type: ignore[union-attr]
    gain, baseline, units = (
        _GAIN.match(words[2]).groups() if len(words) > 2 else ("0", None, None)  # type: ignore[union-attr]
    )
    zero = int(words[4]) if len(words) > 4 else 0
    return _Signal(
        file=words[0],
        format=kind,
        plain=frames in (None, "1") and skew in (None, "0"),
        offset=int(offset or 0),
        gain=float(gain) or _DEFAULT_GAIN,
        baseline=zero if baseline is None else int(baseline),
        units=units or "mV",
        checksum=int(words[6]) if len(words) > 6 else None,
        name=name,
    )


def _decode(
    group: list[_Signal], data: bytes, samples: int | None, source: str, faults: list[str]
) -> list[NDArray[Any]]:
    kind, count = group[0].format, len(group)
    if any((signal.format, signal.offset) != (kind, group[0].offset) for signal in group):
        raise BadSample(source, "one storage format in one file", "several")
    if data[:6] == b"MATLAB":
        digital = _matlab(data, count, source)
    else:
        data = data[group[0].offset :]
        held = len(data) * 8 // _BITS[kind] // count
        if samples is None:
            samples = held
        if not 0 < samples <= held:
            raise BadSample(source, f"{samples} samples of {count} signals", f"a truncated file of {held}")
        digital = _integers(kind, data, samples * count).reshape(samples, count).T
    if samples is not None and digital.shape[1] != samples:
        raise BadSample(source, f"{samples} samples of {count} signals", f"{digital.shape[1]}")
    rows = []
    for signal, row in zip(group, digital, strict=True):
        if signal.checksum is not None and (int(row.sum(dtype=np.int64)) - signal.checksum) % 65536:
            faults.append(f"the checksum of {signal.name or 'a signal'} does not agree with the header")
        # Divided, not multiplied by 1 / gain, to equal the format's own software.
        physical = (row.astype(np.float64) - signal.baseline) / signal.gain
        physical[row == _INVALID[kind]] = np.nan
        rows.append(physical)
    return rows


def _integers(kind: str, data: bytes, count: int) -> NDArray[Any]:
    view = partial(np.frombuffer, data)
    if kind == "80":
        return view("u1", count).astype(np.int32) - 128
    if kind == "24":
        three = view("u1", 3 * count).reshape(-1, 3).astype(np.int32)
        unsigned = three[:, 0] | three[:, 1] << 8 | three[:, 2] << 16
        return unsigned - ((unsigned >> 23) << 24)
    if kind == "212":
        # Two samples of twelve bits in three bytes: low byte, both high nibbles, low byte.
        size = -(-count * 3 // 2)
        padded = np.zeros(-(-size // 3) * 3, np.int32)
        padded[:size] = view("u1", size)
        low, nibbles, high = padded.reshape(-1, 3).T
        pairs = np.stack([low | (nibbles & 15) << 8, high | (nibbles >> 4) << 8], 1).reshape(-1)[:count]
        return pairs - ((pairs >> 11) << 12)  # type: ignore[no-any-return]
    return view({"16": "<i2", "61": ">i2", "32": "<i4"}[kind], count)


def _matlab(data: bytes, count: int, source: str) -> NDArray[Any]:
    """The matrix `val` of a MATLAB file of version 5; version 4 is format 16 behind an offset, as its header says."""
    from scipy.io import loadmat

    if b"MATLAB 7.3" in data[:20]:
        raise BadSample(source, "a MATLAB file of version 4 or 5", "version 7.3; save it with -v7")
    try:
        values = loadmat(io.BytesIO(data), variable_names=["val"])["val"]
    except Exception as error:  # parsers of damaged files raise anything
        raise BadSample(source, "a MATLAB file with a matrix 'val'", f"{type(error).__name__}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf" or values.ndim != 2:
        raise BadSample(source, "a matrix 'val' of numbers", "something else")
    if len(values) != count:
        raise BadSample(source, f"{count} rows in 'val'", f"shape {values.shape}")
    return values


def _by_wfdb(source: str, stem: Path | None) -> Channels:
    if stem is None:
        raise BadSample(source, "one segment in format 16, 24, 32, 61, 80 or 212", "another; give its path")
    try:
        import wfdb
    except ModuleNotFoundError as error:
        raise missing_extra("wfdb", "ecg") from error
    try:
        record = wfdb.rdrecord(str(stem))
    except Exception as error:
        raise BadSample(source, "a WFDB record", f"a damaged one ({type(error).__name__})") from error
    if record.p_signal is None or record.p_signal.size > MAX_VALUES:
        raise BadSample(source, f"a record of 1..{MAX_VALUES} values", "another")
    return Channels(record.p_signal.T, float(record.fs), list(record.sig_name), list(record.units))
