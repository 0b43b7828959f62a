"""ECGs: the golden recording in each format, WFDB of several kinds, and a mapping."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modalities.ecg.sample import LEADS, RATES, Ecg
from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand, demand_array, files_of, single


def seeds(folder: Path) -> dict[str, Case]:
    """A few leads of one second each: small files."""
    from golden_files import RATE, recording, write_challenge, write_dicom, write_edf, write_wfdb

    signal = recording()[:, : 2 * RATE]
    cases = {}
    for fmt in ("16", "212", "24", "80"):
        place = folder / f"wfdb{fmt}"
        place.mkdir()
        write_wfdb(place, signal[:3], fmt)
        cases[f"wfdb-{fmt}"] = Case(files_of(place), "rec.hea")
    for name in ("mat", "mat-by-header"):
        (folder / name).mkdir()
        write_challenge(folder / name, signal)
        cases[name] = Case(files_of(folder / name), "JS1.mat" if name == "mat" else "JS1.hea")
    frames = np.round(signal[:2] * 1000).astype("<i2").reshape(2, -1, 4).transpose(1, 0, 2).tobytes()
    head = b"m 2 62.5 125\nm.dat 16x4 1000/mV 16 0 0 0 0 I\nm.dat 16x4 1000/mV 16 0 0 0 0 II\n"
    cases["wfdb-frames"] = Case({"m.hea": head, "m.dat": frames}, "m.hea")
    stated = {"rate": RATE, "units": "mV", "leads": list(LEADS)}
    cases["dicom"] = single("ecg.dcm", write_dicom(folder / "ecg.dcm", signal[:2]).read_bytes())
    cases["edf"] = single("ecg.edf", write_edf(folder / "ecg.edf", signal[:3]).read_bytes())
    rows = "\n".join(",".join(f"{value:.4f}" for value in column) for column in signal[:3].T)
    cases["csv"] = single("t.csv", f"# rate: {RATE}\n# units: mV\n{','.join(LEADS[:3])}\n{rows}\n".encode())
    np.save(folder / "a.npy", signal.T.astype(np.float32))
    cases["npy"] = single("a.npy", (folder / "a.npy").read_bytes(), a__json=json.dumps(stated).encode())
    np.savez_compressed(folder / "a.npz", signal=signal * 1e3, **(stated | {"units": "uV"}))
    cases["npz"] = single("a.npz", (folder / "a.npz").read_bytes())
    table = pa.table({f"MDC_ECG_LEAD_{lead}": row for lead, row in zip(LEADS, signal, strict=True)})
    table = table.replace_schema_metadata({"rate": str(RATE), "units": "mV"})
    pq.write_table(table.slice(0, 400), folder / "a.parquet")
    cases["parquet"] = single("a.parquet", (folder / "a.parquet").read_bytes())
    cases["mapping"] = Case(value={"signal": signal, **stated})
    wfdb = files_of(folder / "wfdb16")
    cases["mapping-wfdb"] = Case(value=wfdb)
    return cases


def check(sample: Any) -> None:
    """An `Ecg` as its class describes it."""
    demand(isinstance(sample, Ecg), f"a {type(sample).__name__}")
    demand_array(sample.signal, np.float32, 2, "signal")
    demand_array(sample.valid, np.bool_, 2, "valid")
    demand(sample.signal.shape == sample.valid.shape and len(sample.leads) == len(sample.signal), "rows of leads")
    demand(list(sample.leads) == [lead for lead in LEADS if lead in sample.leads], "leads out of order")
    demand(RATES[0] <= sample.rate <= RATES[1] and isinstance(sample.rate, float), f"rate {sample.rate}")
    demand(bool(sample.valid.any()) and not sample.signal[~sample.valid].any(), "values where nothing was recorded")
    demand(bool((np.abs(sample.signal) < 1e6).all()), "a voltage of kilovolts")
