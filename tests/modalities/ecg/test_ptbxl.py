"""The source reads PTB-XL's own tables."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from golden_files import recording, write_wfdb

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError
from modalities.ecg import MODALITY
from modalities.ecg.sources.ptbxl import PtbxlSource

HEAD = "ecg_id,patient_id,report,scp_codes,strat_fold,filename_lr,filename_hr"
STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class
NORM,normal ECG,1.0,,,NORM
IMI,inferior myocardial infarction,1.0,,,MI
LVH,left ventricular hypertrophy,1.0,,,HYP
SR,sinus rhythm,,,1.0,
ABQRS,abnormal QRS,,1.0,,
"""


def release(folder: Path) -> Path:
    """Four rows in the layout of the release; the first one has its recording."""
    (folder / "records100").mkdir()
    write_wfdb(folder / "records100", recording(), name="r1")
    rows = [
        HEAD,
        "1,77.0,sinusrhythmus,\"{'NORM': 100.0, 'SR': 0.0}\",3,records100/r1,records500/h1",
        "2,78.0,  ,\"{'SR': 0.0, 'ABQRS': 0.0, 'IMI': 35.0, 'LVH': 100.0, 'WHAT': 1.0}\",9,records100/r2,",
        "3,77.0,x,not a dict,10,records100/r3,",
        "4,79.0,y,{},,records100/r4,",
    ]
    (folder / "ptbxl_database.csv").write_text("\n".join(rows) + "\n")
    (folder / "scp_statements.csv").write_text(STATEMENTS)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return release(tmp_path)


def config(folder: Path, **values: object) -> SourceConfig:
    return SourceConfig(source="ptbxl", manifest=str(folder), **values)


def test_records_of_ptbxl(folder: Path) -> None:
    records = PtbxlSource(config(folder)).records()
    assert [record.id for record in records] == ["1", "2", "3", "4"]
    assert [record.split for record in records] == ["train", "validation", "test", ""]
    assert [record.group for record in records] == ["77", "78", "77", "79"]
    assert [record.labels for record in records] == [("NORM",), ("MI", "HYP"), (), ()]
    assert records[0].values == {"ecg": ("records100/r1.dat",), "text": ("Normal ECG. Sinus rhythm.",)}
    assert records[1].values["text"] == (
        "Possibly inferior myocardial infarction. Left ventricular hypertrophy. Abnormal QRS. Sinus rhythm.",
    )
    assert "scp_codes" in records[2].problem.reason
    assert "text" not in records[3].values


def test_the_report_and_the_other_rate(folder: Path) -> None:
    source = PtbxlSource(config(folder, columns={"ecg": "ecg", "text": "report"}, options={"rate": 500}))
    records = source.records()
    assert records[0].values == {"ecg": ("records500/h1.dat",), "text": ("sinusrhythmus",)}
    assert [record.id for record in records] == ["1", "3", "4"]  # the second has a blank report


def test_the_files_are_read(folder: Path) -> None:
    source = PtbxlSource(config(folder))
    ecg = MODALITY.read(source.fetch(source.records()[0].values["ecg"][0]))
    np.testing.assert_allclose(ecg.signal, recording(), atol=1e-3)


def test_the_fingerprint_follows_labels_and_signals(folder: Path) -> None:
    prints = [PtbxlSource(config(folder)).fingerprint()]
    prints.append(PtbxlSource(config(folder)).fingerprint())
    write_wfdb(folder / "records100", -recording(), name="r1")
    prints.append(PtbxlSource(config(folder)).fingerprint())
    table = folder / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("'IMI'", "'NORM'"))
    prints.append(PtbxlSource(config(folder)).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_missing_folders_and_unknown_options_are_errors(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMALIGN_DATA", raising=False)
    with pytest.raises(UserError, match="MMALIGN_DATA"):
        PtbxlSource(SourceConfig(source="ptbxl"))
    with pytest.raises(UserError, match="without ptbxl_database"):
        PtbxlSource(config(tmp_path / "records100"))
    with pytest.raises(UserError, match="did you mean 'rate'"):
        PtbxlSource(config(folder, options={"rat": 1}))
    with pytest.raises(UserError, match=r"\(100, 500\)"):
        PtbxlSource(config(folder, options={"rate": 250}))
    with pytest.raises(UserError, match="did you mean 'report'"):
        PtbxlSource(config(folder, columns={"text": "reprot"}))
    (folder / "ptbxl_database.csv").write_text("ecg_id\n1\n")
    with pytest.raises(UserError, match="patient_id"):
        PtbxlSource(config(folder)).records()


def test_a_name_that_is_too_long_and_a_header_of_megabytes(folder: Path) -> None:
    table = folder / "ptbxl_database.csv"
    rows = table.read_text()
    table.write_text(rows.replace("records100/r2", "r" * 5000))
    assert len(PtbxlSource(config(folder)).fingerprint()) == 64
    table.write_text(rows.replace("ecg_id", "x" * 1_000_000))
    with pytest.raises(UserError, match="expected a CSV table, got a damaged one: field larger"):
        PtbxlSource(config(folder)).records()
    table.write_text(rows.replace("ecg_id", "x" * 100_000))
    with pytest.raises(UserError, match="expected a column 'ecg_id', got xxx") as caught:
        PtbxlSource(config(folder)).records()
    assert len(str(caught.value)) < 600


def test_the_real_folder(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (real_data / "ptbxl_500").is_dir():
        pytest.skip(f"no PTB-XL records at {real_data / 'ptbxl_500'}")
    monkeypatch.setenv("MMALIGN_DATA", str(real_data))
    source = PtbxlSource(SourceConfig(source="ptbxl"))
    records = source.records()
    splits = {split: [record for record in records if record.split == split] for split in ("train", "validation")}
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 353, "validation": 81}
    assert not {row.group for row in splits["train"]} & {row.group for row in splits["validation"]}
    assert all(row.values.keys() == {"ecg", "text"} and row.problem is None for row in records)
    assert sum("NORM" in row.labels for row in records) > 150
    assert len([row for row in records if len(row.labels) > 1]) > 20
    assert all(source.fetch(row.values["ecg"][0]).is_file() for row in records)


@pytest.mark.parametrize("codes", ["{'NORM': None}", "{[]: 1}", "{'SR': 1is 2}", r"{'\d': '1'}", "{5: 1.0}"])
def test_statements_of_an_ecg_that_are_no_likelihoods(codes: str, tmp_path: Path) -> None:
    """The row is rejected, and Python's parser does not warn."""
    release(tmp_path)
    table = tmp_path / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("{'NORM': 100.0, 'SR': 0.0}", codes))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records = PtbxlSource(SourceConfig("ptbxl", str(tmp_path))).records()
    assert "expected scp_codes as a dict" in str(records[0].problem)
