"""WFDB: a header (`.hea`) and its signal files (`.dat`, or `.mat` as in the PhysioNet challenges) -> `Channels`.

The format is that of https://physionet.org/physiotools/wag/signal-5.htm; for the header see `wfdb_header.py`. The usual
storage formats are decoded here, several times faster than by `wfdb`; other formats and shifted signals go to `wfdb`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample, MissingFile
from mmalign.registry import missing_extra
from modalities.common.reading.local_file import demand_beside, is_file
from modalities.ecg.formats.leads import leads_of
from modalities.ecg.formats.mat5 import read_matrix
from modalities.ecg.formats.wfdb_header import Header, Signal, read_header
from modalities.ecg.sample import MAX_VALUES, Channels

SUFFIXES = (".hea", ".dat", ".mat")

_INVALID = {"16": -(2**15), "61": -(2**15), "80": -(2**7), "212": -(2**11), "24": -(2**23), "32": -(2**31)}
"""Storage format -> value of a missing sample."""

_BITS = {"16": 16, "61": 16, "80": 8, "212": 12, "24": 24, "32": 32}
_MAX_HEADER = 1 << 20

Fetch = Callable[[str], bytes]


def from_path(path: Path) -> Channels:
    """A record by its header, one of its signal files, or its name without a suffix."""
    stem = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    head = stem.with_name(stem.name + ".hea")
    if not is_file(head):
        raise MissingFile(path, f"the header {head.name}, which states rate, gain and leads, beside it", "no such file")
    demand_beside(head, path)

    def fetch(name: str) -> bytes:
        file = head.with_name(name)
        if not is_file(file):
            raise MissingFile(head, f"the file {name} beside it", "no such file")
        demand_beside(file, head)
        if file.stat().st_size > MAX_VALUES * 4:
            raise BadSample(file, f"a file of at most {MAX_VALUES * 4} bytes", f"{file.stat().st_size} bytes")
        return file.read_bytes()

    if head.stat().st_size > _MAX_HEADER:
        raise BadSample(head, "a WFDB header", f"{head.stat().st_size} bytes")
    return _parse(head.read_bytes(), fetch, str(head), head.parent / stem.name)


def from_files(files: Mapping[Any, Any]) -> tuple[str, Channels]:
    """A record from memory: file names and their bytes, one of them a header.

    Of several headers, that of a record of several segments is the record.
    """
    heads = [str(key) for key in files if str(key).endswith(".hea")]
    name = next((key for key in heads if isinstance(files[key], bytes) and b"/" in files[key].split(b" ")[0]), heads[0])

    def fetch(wanted: str) -> bytes:
        if not isinstance(files.get(wanted), bytes):
            raise BadSample(name, f"the file {wanted} with it", "no bytes of that name")
        return bytes(files[wanted])

    if not isinstance(files[name], bytes):
        raise BadSample(name, "a header as bytes", f"a {type(files[name]).__name__}")
    return name, _parse(files[name], fetch, name, None)


def _parse(text: bytes, fetch: Fetch, source: str, stem: Path | None) -> Channels:
    def checked(name: str) -> bytes:
        if "/" in name or "\\" in name or name in ("", ".", "..", "-", "~"):
            raise BadSample(source, "files beside the header", f"the name {name[:60]!r}")
        return fetch(name)

    header = read_header(text, source)
    faults: list[str] = []
    if header.segments:
        return _joined(header, checked, source, stem, faults)
    signals, rows = header.signals, _rows(header, checked, source, stem, faults)
    chosen = _one_rate(signals, source)
    if len({rows[index].size for index in chosen}) != 1:
        raise BadSample(source, "signals of one length", "several lengths")
    names, units = [signals[index].name for index in chosen], [signals[index].units for index in chosen]
    rate = header.rate * signals[chosen[0]].per_frame
    return Channels(np.stack([rows[index] for index in chosen]), rate, names, units, tuple(faults))


def _one_rate(signals: Sequence[Signal], source: str) -> list[int]:
    """Indices of all signals if they have one rate, else of the ECG leads."""
    chosen = list(range(len(signals)))
    if len({signal.per_frame for signal in signals}) > 1:
        leads = leads_of([signal.name for signal in signals])
        chosen = [index for index in chosen if leads[index]] or chosen[:1]
    if len({signals[index].per_frame for index in chosen}) > 1:
        raise BadSample(source, "leads of one rate", "several numbers of samples per frame")
    return chosen


def _rows(header: Header, fetch: Fetch, source: str, stem: Path | None, faults: list[str]) -> list[NDArray[Any]]:
    """Physical values of each signal of a record of one segment; their lengths differ with the samples per frame."""
    signals = header.signals
    if not signals:
        raise BadSample(source, "a WFDB record with signals", "one without")
    files = dict.fromkeys(signal.file for signal in signals)
    if any(signal.skewed or signal.format not in _BITS for signal in signals):
        for file in files:
            fetch(file)  # refuses names and links that leave the folder before `wfdb` opens them
        return _by_wfdb(header, source, stem, faults)
    rows: dict[int, NDArray[Any]] = {}
    for file in files:
        group = [index for index, signal in enumerate(signals) if signal.file == file]
        decoded = _decode([signals[i] for i in group], fetch(file), header.frames, f"{source} ({file})", faults)
        rows |= zip(group, decoded, strict=True)
    return [rows[index] for index in range(len(signals))]


def _joined(header: Header, fetch: Fetch, source: str, stem: Path | None, faults: list[str]) -> Channels:
    """A record of several segments; leads that a segment lacks, and gaps (`~`), are missing values."""
    parts = [None if name == "~" else read_header(fetch(f"{name}.hea"), name) for name, _ in header.segments]
    if any(part is not None and part.segments for part in parts) or not any(parts):
        raise BadSample(source, "segments with signals", "none, or segments of segments")
    lengths = [frames for _, frames in header.segments]
    if min(lengths) < 0 or (header.frames is not None and sum(lengths) != header.frames):
        raise BadSample(source, f"segments of {header.frames} frames in all", f"{sum(lengths)}")
    # The first header of a variable layout has no samples and lists all signals; in a fixed layout all are alike.
    listed = next(part for part in parts if part is not None).signals
    leads = leads_of([signal.name for signal in listed])
    wanted = {signal.name: signal for signal, lead in zip(listed, leads, strict=True) if lead} or {
        signal.name: signal for signal in listed[:1]
    }
    per_frame = {signal.per_frame for signal in wanted.values()}
    if len(per_frame) != 1:
        raise BadSample(source, "leads of one rate", "none, or several numbers of samples per frame")
    each = per_frame.pop()
    if not 0 < sum(lengths) * each * len(wanted) <= MAX_VALUES:
        raise BadSample(source, f"1..{MAX_VALUES} values", f"{len(wanted)} leads of {sum(lengths) * each} samples")
    values = np.full((len(wanted), sum(lengths) * each), np.nan)
    starts = np.cumsum([0, *lengths]) * each
    for part, (name, frames), start in zip(parts, header.segments, starts, strict=False):
        if part is None or not frames:
            continue
        if part.frames not in (None, frames) or part.rate != header.rate:
            raise BadSample(source, f"a segment {name} of {frames} frames at {header.rate:g} Hz", "another one")
        rows = _rows(part, fetch, f"{source} ({name})", stem and stem.with_name(name), faults)
        for signal, row in zip(part.signals, rows, strict=True):
            if signal.name not in wanted:
                continue
            whole = wanted[signal.name]
            if (signal.per_frame, signal.units) != (each, whole.units) or row.size != frames * each:
                raise BadSample(source, f"the same rate, unit and length of {signal.name} in all segments", "others")
            values[list(wanted).index(signal.name), start : start + row.size] = row
    return Channels(values, header.rate * each, list(wanted), [one.units for one in wanted.values()], tuple(faults))


def _decode(group: list[Signal], data: bytes, frames: int | None, source: str, faults: list[str]) -> list[NDArray[Any]]:
    kind, width = group[0].format, sum(signal.per_frame for signal in group)
    if any((signal.format, signal.offset) != (kind, group[0].offset) for signal in group):
        raise BadSample(source, "one storage format in one file", "several")
    if data[:6] == b"MATLAB":
        digital = read_matrix(data, source, most=MAX_VALUES)
        if len(digital) != width:
            raise BadSample(source, f"{width} rows in 'val'", f"shape {digital.shape}")
        table: NDArray[Any] = digital.T
    else:
        data = data[group[0].offset :]
        held = len(data) * 8 // _BITS[kind] // width
        if not 0 < (held if frames is None else frames) <= held:
            raise BadSample(source, f"{frames} samples of {width} signals", f"a truncated file of {held}")
        frames = held if frames is None else frames
        table = _integers(kind, data, frames * width).reshape(frames, width)
    if frames is not None and len(table) != frames:
        raise BadSample(source, f"{frames} samples of {width} signals", f"{len(table)}")
    rows, first = [], 0
    for signal in group:
        row = table[:, first : first + signal.per_frame].reshape(-1)
        first += signal.per_frame
        _check_sum(row, signal, faults)
        # Divided, not multiplied by 1 / gain, to equal the format's own software.
        physical = (row.astype(np.float64) - signal.baseline) / signal.gain
        physical[row == _INVALID[kind]] = np.nan
        rows.append(physical)
    return rows


def _check_sum(row: NDArray[Any], signal: Signal, faults: list[str]) -> None:
    if signal.checksum is not None and (int(row.sum(dtype=np.int64)) - signal.checksum) % 65536:
        faults.append(f"the checksum of {signal.name or 'a signal'} does not agree with the header")


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


def _by_wfdb(header: Header, source: str, stem: Path | None, faults: list[str]) -> list[NDArray[Any]]:
    if stem is None:
        raise BadSample(source, "signals in format 16, 24, 32, 61, 80 or 212", "another; give its path")
    if header.frames is not None and header.frames * sum(one.per_frame for one in header.signals) > MAX_VALUES:
        raise BadSample(source, f"at most {MAX_VALUES} values", f"{header.frames} frames")
    try:
        import wfdb
    except ModuleNotFoundError as error:
        raise missing_extra("wfdb", "ecg") from error
    try:
        record = wfdb.rdrecord(str(stem), physical=False, smooth_frames=False)
        for signal, digital in zip(header.signals, record.e_d_signal, strict=True):
            if not signal.skewed:  # the end of a shifted signal is not read
                _check_sum(digital, signal, faults)
        return list(record.dac(expanded=True))
    except Exception as error:  # parsers of damaged files raise anything
        raise BadSample(source, "a WFDB record", f"a damaged one ({type(error).__name__})") from error
