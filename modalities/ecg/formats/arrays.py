"""Arrays and tables that state their rate, unit and leads: CSV, NPY, NPZ, Parquet, mappings -> `Channels`.

- NPZ, or a mapping: `signal` (leads by time or time by leads), `rate` in Hz, `units`, `leads`.
- CSV: a header line with the leads; lines `# rate: 500` and `# units: mV` before it. Parquet: one column a lead; the
  same two as metadata of the schema.
- NPY: an array alone. It, and any of the others, may have a file of the same name beside it that ends in `.json`:
  `{"rate": 500, "units": "mV", "leads": ["I", "II"]}`.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.errors import BadSample
from modalities.common.reading.local_file import demand_beside, is_file
from modalities.common.reading.npy import archive_arrays, array_from
from modalities.common.reading.numbers import stated_array, stated_number
from modalities.ecg.formats.leads import leads_of
from modalities.ecg.sample import MAX_VALUES, Channels

STATED = ("rate", "units", "leads")
ADVICE = 'a stated rate, units and leads: {"rate": 500, "units": "mV", "leads": ["I", "II"]}'
Loaded = dict[str, Any]


def from_path(path: Path) -> Channels:
    """A table by its suffix, with its `.json` file."""
    beside: Loaded = {}
    sidecar = path.with_suffix(".json")
    if is_file(sidecar):
        demand_beside(sidecar, path)
        try:
            beside = json.loads(sidecar.read_bytes()[: 1 << 20])
            if not isinstance(beside, dict):
                raise ValueError
        except (ValueError, RecursionError) as error:
            raise BadSample(sidecar, ADVICE, "no JSON object") from error
    return parse(path.read_bytes(), path.suffix.lower(), str(path), beside)


def parse(data: bytes, suffix: str, source: str, beside: Loaded | None = None) -> Channels:
    """A table from its bytes."""
    try:
        loaded = READERS[suffix](data)
    except BadSample as error:
        raise BadSample(source, error.expected, error.came) from error
    except Exception as error:  # parsers of damaged files raise anything
        reason = " ".join(str(error).split())[:120]
        raise BadSample(source, f"a readable {suffix} file", f"{type(error).__name__}: {reason}") from error
    stated = {key: value for key, value in (beside or {}).items() if key in STATED}
    faults = loaded.pop("faults", ())
    return replace(from_mapping({**loaded, **stated}, source), faults=faults)


def from_mapping(mapping: Mapping[Any, Any], source: str) -> Channels:
    """Parse a mapping with `signal`, `rate`, `units` and `leads`; all are required."""
    missing = [name for name in ("signal", *STATED) if mapping.get(name) is None]
    if missing:
        raise BadSample(source, ADVICE if "signal" not in missing else f"a signal and {ADVICE}", f"no {missing[0]}")
    try:
        values = np.asarray(mapping["signal"])
        if values.dtype.kind not in "iuf":
            raise ValueError
    except ValueError as error:
        raise BadSample(source, "a signal of numbers, leads by time", "something else") from error
    units, leads = mapping["units"], mapping["leads"]
    rate = stated_number(mapping["rate"], "a rate in Hz", source)
    named = stated_array(leads, "the names of the leads", source).reshape(-1)[:1024]
    names = [leads] if isinstance(leads, str) else [str(lead) for lead in named]
    kinds = stated_array(units, "the units of the leads", source).reshape(-1)[:1024]
    if len(kinds) not in (1, len(names)):
        raise BadSample(source, f"one unit, or {len(names)}", f"{len(kinds)}")
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or len(names) not in values.shape or values.size > MAX_VALUES:
        raise BadSample(source, f"{len(names)} leads by time, at most {MAX_VALUES} values", f"shape {values.shape}")
    if values.shape[0] == values.shape[1]:
        raise BadSample(source, "leads by time", f"shape {values.shape}, in which the axis of the leads is not clear")
    values = values if values.shape[0] == len(names) else values.T
    spelled = str(kinds[0]) if len(kinds) == 1 else [str(unit) for unit in kinds]
    return Channels(values, rate, names, spelled)


def _npy(data: bytes) -> Loaded:
    return {"signal": array_from(data, "")}


def _npz(data: bytes) -> Loaded:
    return dict(archive_arrays(data, ("signal", *STATED), "", most=MAX_VALUES * 8, small=STATED))


def _csv(data: bytes) -> Loaded:
    loaded: Loaded = {}
    text = data.decode("utf-8-sig")
    lines = text.splitlines()
    while lines and lines[0].startswith("#"):
        key, _, value = lines.pop(0).lstrip("# ").partition(":")
        if key.strip().lower() in ("rate", "units"):
            loaded[key.strip().lower()] = float(value) if key.strip().lower() == "rate" else value.strip()
    if len(lines) < 2:
        raise BadSample("", "a header line with the leads, and numbers below it", "neither")
    mark = max(",;\t", key=lines[0].count)
    names = [name.strip().strip('"') for name in lines[0].split(mark)]
    columns = [column for column, lead in enumerate(leads_of(names)) if lead]
    if len(names) * len(lines) > MAX_VALUES:
        raise BadSample("", f"at most {MAX_VALUES} values", f"{len(lines)} lines")
    if not columns:
        raise BadSample("", "a header line with the leads", f"{lines[0][:60]!r}")
    # An empty cell is a missing sample; a line that is too short is a damaged file.
    if not text.endswith(("\n", "\r")):
        loaded["faults"] = ("the last line has no end: the table may be cut",)
    values = np.genfromtxt(lines[1:], delimiter=mark, usecols=columns, ndmin=2, comments=None)  # type: ignore[call-overload]  # the stub misses None
    words = [cell.strip().lower() for line in lines[1:] for cell in line.split(mark)] if np.isnan(values).any() else []
    if any(word and word not in ("nan", "na", "null") and not _is_number(word) for word in words):
        raise BadSample("", "numbers below the header", "words")
    return {**loaded, "signal": values.T, "leads": [names[column] for column in columns]}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _parquet(data: bytes) -> Loaded:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(data))
    columns = file.schema_arrow.names
    names = [name for name, lead in zip(columns, leads_of(columns), strict=True) if lead]
    if not names:
        raise BadSample("", "columns named after the leads", ", ".join(columns[:12]) or "none")
    if file.metadata.num_rows * len(names) > MAX_VALUES:
        raise BadSample("", f"at most {MAX_VALUES} values", f"{file.metadata.num_rows} rows")
    table = file.read(columns=names)
    loaded: Loaded = {"signal": np.stack([table[name].to_numpy() for name in names]), "leads": names}
    for key in ("rate", "units"):
        if (value := (file.schema_arrow.metadata or {}).get(key.encode())) is not None:
            loaded[key] = float(value) if key == "rate" else value.decode()
    return loaded


READERS: dict[str, Callable[[bytes], Loaded]] = {
    ".csv": _csv, ".npy": _npy, ".npz": _npz, ".parquet": _parquet, ".pq": _parquet,
}  # fmt: skip
"""Suffix -> reader."""
