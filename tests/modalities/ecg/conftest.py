"""What the tests of the ECG modality share."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalities.ecg import MODALITY
from modalities.ecg.read import _say_few
from modalities.ecg.sample import LEADS

sys.path.insert(0, str(Path(__file__).parent))  # the writers are a module that the tests import

from golden_files import RATE, recording, write_challenge, write_dicom, write_edf, write_wfdb

with warnings.catch_warnings():  # wfdb 4.3 sets an option that pandas 3.1 calls old
    warnings.simplefilter("ignore")
    import wfdb  # noqa: F401


@pytest.fixture(scope="session")
def signal() -> np.ndarray:
    return recording()


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory, signal: np.ndarray) -> dict[str, Path]:
    """Format -> a file with the recording in it."""
    folder = tmp_path_factory.mktemp("golden")
    stated = {"rate": RATE, "units": "mV", "leads": list(LEADS)}
    files = {
        "wfdb": write_wfdb(folder, signal),
        "wfdb-24": write_wfdb(folder, signal, "24", "deep"),
        "wfdb-32": write_wfdb(folder, signal, "32", "deeper"),
        "mat": write_challenge(folder, signal),
        "dicom": write_dicom(folder / "ecg.dcm", signal),
        "edf": write_edf(folder / "ecg.edf", signal),
        "csv": folder / "table.csv",
        "npy": folder / "array.npy",
        "npz": folder / "arrays.npz",
        "parquet": folder / "columns.parquet",
    }
    rows = "\n".join(",".join(map(repr, column)) for column in np.vstack([np.arange(1000) / RATE, signal]).T.tolist())
    files["csv"].write_text(f"# rate: {RATE}\n# units: mV\ntime,{','.join(LEADS)}\n{rows}\n")
    np.save(files["npy"], signal.T.astype(np.float32))
    files["npy"].with_suffix(".json").write_text(json.dumps(stated))
    np.savez_compressed(files["npz"], signal=signal * 1e3, **(stated | {"units": "uV"}))
    table = pa.table({f"MDC_ECG_LEAD_{lead}": row for lead, row in zip(LEADS, signal, strict=True)})
    pq.write_table(table.replace_schema_metadata({"rate": str(RATE), "units": "mV"}), files["parquet"])
    return files


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """What is said once a process is said in each test."""
    _say_few.cache_clear()


@pytest.fixture
def heart() -> object:
    return MODALITY.toy_sample(1, np.random.default_rng(1))
