"""Read an ECG from any supported source. File formats are recognised by content where possible."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.errors import BadSample
from mmalign.safe_io.printable import printable
from modalities.common.reading.any_source import beginning, read_any
from modalities.common.reading.local_file import demand_file, is_file
from modalities.ecg.formats.lead_checks import find_faults
from modalities.ecg.formats.leads import complete, leads_of, millivolts
from modalities.ecg.sample import LEADS, MAX_VALUES, MIN_SECONDS, RATES, Channels, Ecg

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 28
"""Maximum size of a file."""

MIN_RANGE = 1e-6
"""Range in millivolts of a lead that is flat: a thousandth of a microvolt is below the noise of every amplifier."""

WANTED = "an ECG: WFDB (.hea), DICOM, EDF, CSV, NPY, NPZ or Parquet"


def read_ecg(source: Any, *, strict: bool = False) -> Ecg:
    """Read a recording: leads by name in any order, completed from two limb leads, in millivolts, checked.

    Args:
        source: A path: WFDB by its `.hea`, `.dat`, `.mat` or bare name, DICOM, EDF, or a CSV, NPY, NPZ or Parquet
            table that states rate, unit and leads (see `tables.py`). Or the bytes of one DICOM, EDF, NPZ or Parquet
            file; or `{"a.hea": bytes, "a.dat": bytes}` for WFDB; or `{"signal": array, "rate": 500, "units": "mV",
            "leads": [...]}`; or an `Ecg`.
        strict: Reject recordings that would raise a warning: leads that look swapped or inverted, an implausible unit,
            flat leads, a checksum mismatch.

    Raises:
        BadSample: it is no ECG, is damaged or too large, or does not state its rate, unit or leads.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(2, 500))
        >>> ecg = read_ecg({"signal": rows, "rate": 500, "units": "mV", "leads": ["DII", "DI"]})
        >>> ecg.leads, ecg.signal.shape
        (('I', 'II', 'III', 'aVR', 'aVL', 'aVF'), (6, 500))
    """
    if isinstance(source, Ecg):
        if strict and source.faults:
            raise BadSample("ECG", "a recording without faults", "; ".join(source.faults))
        return source
    with np.errstate(all="ignore"):  # values that are not finite are masked, and flat leads refused, below
        name, channels = _open(source)
        return _finish(channels, name, strict)


def _open(source: Any) -> tuple[str, Channels]:
    from modalities.ecg.formats import arrays as tables
    from modalities.ecg.formats import wfdb_records as wfdb_files

    if isinstance(source, Mapping) and any(str(key).endswith(".hea") for key in source):
        return wfdb_files.from_files(source)
    expected = "a path, bytes, or a mapping with signal, rate, units and leads"
    return read_any(
        source,
        kind="ECG",
        expected=expected,
        path=_from_path,
        data=_from_bytes,
        mapping=tables.from_mapping,
        most=MAX_BYTES,
    )


def _from_path(path: Path) -> Channels:
    from modalities.ecg.formats import arrays as tables
    from modalities.ecg.formats import wfdb_records as wfdb_files

    suffix = path.suffix.lower()
    if suffix in wfdb_files.SUFFIXES or (not is_file(path) and is_file(path.with_name(path.name + ".hea"))):
        return wfdb_files.from_path(path)
    demand_file(path, WANTED, most=MAX_BYTES)
    if suffix in tables.READERS:
        return tables.from_path(path)
    return _from_bytes(path.read_bytes(), str(path))


def _from_bytes(data: bytes, name: str) -> Channels:
    from modalities.ecg.formats import arrays as tables
    from modalities.ecg.formats import dicom, edf

    if data[128:132] == b"DICM":
        return dicom.parse(data, name)
    if data[:8] == b"0       " or data[:8] == b"\xffBIOSEMI":
        return edf.parse(data, name)
    for magic, suffix in ((b"PK\x03\x04", ".npz"), (b"PAR1", ".parquet"), (b"\x93NUMPY", ".npy")):
        if data.startswith(magic):
            return tables.parse(data, suffix, name)
    raise BadSample(name, WANTED, beginning(data))


def _finish(channels: Channels, name: str, strict: bool) -> Ecg:
    """Check sizes, map lead names, convert units, mask, derive limb leads, run the checks."""
    values, rate = np.asarray(channels.values), float(channels.rate)
    if values.ndim != 2 or len(channels.names) != values.shape[0]:
        raise BadSample(name, f"{len(channels.names)} channels by time, as it names", f"shape {values.shape}")
    if not RATES[0] <= rate <= RATES[1]:
        raise BadSample(name, f"a rate in {RATES[0]:g}..{RATES[1]:g} Hz", f"{rate:g}")
    if values.size > MAX_VALUES:
        raise BadSample(name, f"at most {MAX_VALUES} values", f"shape {values.shape}")
    if values.shape[1] < MIN_SECONDS * rate:
        raise BadSample(name, f"at least {MIN_SECONDS:g} s", f"{values.shape[1]} samples at {rate:g} Hz")
    units = [channels.units] * len(channels.names) if isinstance(channels.units, str) else list(channels.units)
    rows: dict[str, Any] = {}
    for name_and_sign, unit, row in zip(leads_of(channels.names), units, values, strict=True):
        if name_and_sign is None:
            continue
        lead, sign = name_and_sign
        if lead in rows:
            raise BadSample(name, "each lead once", f"{lead} twice")
        if (factor := millivolts(unit)) is None:
            raise BadSample(name, f"lead {lead} in V, mV or \u00b5V", f"the unit {unit[:20]!r}")
        rows[lead] = row * (sign * factor)
    if not rows:
        known = ", ".join(str(channel)[:20] for channel in channels.names[:12])
        raise BadSample(name, f"leads named as in {', '.join(LEADS)}", f"channels {known or 'without names'}")
    order = [lead for lead in LEADS if lead in rows]
    signal = np.stack([np.asarray(rows[lead], dtype=np.float64) for lead in order])
    valid = np.abs(signal) < 1e6  # False for NaN and infinity; larger values are no voltages
    valid[_flat(signal, valid)] = False
    signal[~valid] = 0.0
    if not valid.any():
        raise BadSample(name, "a signal", f"{len(order)} leads that are flat or not recorded")
    faults = [*channels.faults, *find_faults(signal, valid, order)]
    signal, valid, leads = complete(signal, valid, order)
    if len(leads) < len(LEADS):
        _say_few(leads)
    if faults:
        if strict:
            raise BadSample(name, "a recording without faults", "; ".join(faults))
        log.warning("%s", printable(f"{name}: {'; '.join(faults)}"))
    return Ecg(signal.astype(np.float32), rate, leads, valid, tuple(faults))


def _flat(signal: Any, valid: Any) -> Any:
    """Mask of leads that are constant in single precision, or vary by less than `MIN_RANGE`, `(leads,)`."""
    single = signal.astype(np.float32)
    high = np.where(valid, single, -np.inf).max(1)
    low = np.where(valid, single, np.inf).min(1)
    return ~(high - low > MIN_RANGE)


@cache
def _say_few(leads: tuple[str, ...]) -> None:
    log.warning("recordings with %d of the 12 leads: %s; the others are masked", len(leads), ", ".join(leads))
