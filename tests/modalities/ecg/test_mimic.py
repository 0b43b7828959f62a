"""The source reads MIMIC-IV-ECG's own tables."""

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import recording, write_wfdb

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from mmalign.registry import load
from modalities.ecg import MODALITY
from modalities.ecg.sample import LEADS
from modalities.ecg.sources.mimic import MimicEcgSource
from modalities.text import MODALITY as TEXT

LIST = "subject_id,study_id,file_name,ecg_time,path"
REPORT = ",".join(f"report_{number}" for number in range(18))
MACHINE = f"subject_id,study_id,cart_id,ecg_time,{REPORT},bandwidth,filtering,rr_interval"


def release(folder: Path) -> Path:
    """Four studies of three patients in the layout of the release; the second has no report, the fourth no file."""
    swapped = [0, 1, 2, 3, 5, 4, *range(6, 12)]  # the release's order: aVF before aVL
    lines, machine = [LIST], [MACHINE]
    for subject, study, said in (
        ("10000032", "40689238", ["Sinus rhythm", "Possible inferior infarct - age undetermined", "Abnormal ECG."]),
        ("10000032", "44458630", []),
        ("10000117", "45090959", ["Sinus bradycardia", "", "Normal ECG except for rate"]),
        ("10000285", "49036311", ["Atrial fibrillation, with a rapid response"]),
    ):
        place = f"files/p{subject[:4]}/p{subject}/s{study}"
        if study != "49036311":
            (folder / place).mkdir(parents=True)
            names = [LEADS[row] for row in swapped]
            write_wfdb(folder / place, recording()[swapped], name=study, sig_name=names)
        time = "2180-07-23 08:44:00"
        lines.append(f"{subject},{study},{study},{time},{place}/{study}")
        cells = [f'"{word}"' for word in said] + [""] * (18 - len(said))
        machine.append(f"{subject},{study},6848296,{time},{','.join(cells)},0.005-150 Hz,60 Hz notch,659")
    (folder / "record_list.csv").write_text("\n".join(lines) + "\n")
    (folder / "machine_measurements.csv").write_text("\n".join(machine) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return release(tmp_path)


def source(folder: Path, **values: Any) -> MimicEcgSource:
    return MimicEcgSource(SourceConfig(source="mimic-ecg", manifest=str(folder), **values))


def test_records_of_mimic_ecg(folder: Path) -> None:
    records = source(folder).records()
    assert [record.id for record in records] == ["40689238", "45090959", "49036311"]  # the second has no report
    assert [record.group for record in records] == ["10000032", "10000117", "10000285"]
    assert [record.location for record in records] == ["record_list.csv:2", "record_list.csv:4", "record_list.csv:5"]
    assert records[0].values == {
        "ecg": ("files/p1000/p10000032/s40689238/40689238.dat",),
        "text": ("Sinus rhythm. Possible inferior infarct - age undetermined. Abnormal ECG.",),
    }
    assert records[1].values["text"] == ("Sinus bradycardia. Normal ECG except for rate.",)
    assert all(record.split is None and record.problem is None for record in records)


def test_without_reports_their_table_is_not_needed(folder: Path) -> None:
    (folder / "machine_measurements.csv").unlink()
    assert len(source(folder, columns={"ecg": "ecg"}).records()) == 4
    with pytest.raises(UserError, match="no machine_measurements"):
        source(folder)


def test_leads_are_recognised_by_name(folder: Path) -> None:
    found = source(folder)
    ecg = MODALITY.read(found.fetch(found.records()[0].values["ecg"][0]))
    np.testing.assert_allclose(ecg.signal, recording(), atol=1e-3)
    assert ecg.leads == LEADS
    assert ecg.faults == ()


def test_patients_are_not_divided_and_missing_files_are_rejected(folder: Path) -> None:
    assert load("sources", "mimic-ecg") is MimicEcgSource
    lines = (folder / "record_list.csv").read_text().splitlines()
    for number in range(60):  # two studies each of thirty patients, all of one file
        place = lines[1].split(",")[-1]
        lines.append(f"{20_000_000 + number // 2},{50_000_000 + number},x,2180-07-23 08:44:00,{place}")
    (folder / "record_list.csv").write_text("\n".join(lines) + "\n")
    data = Dataset.open(
        DataConfig("mimic-ecg", str(folder), columns={"ecg": "ecg"}, validation=0.3, test=0.2, max_rejected=0.1),
        {"ecg": MODALITY, "text": TEXT},
    )
    places = {}
    for record, split in zip(data.records, data.splits, strict=True):
        places.setdefault(record.group, set()).add(split)
    assert all(len(splits) == 1 for splits in places.values())
    assert {next(iter(splits)) for splits in places.values()} == {"train", "validation", "test"}
    assert [(bad.id, "no such file" in bad.reason) for bad in data.rejected] == [("49036311", True)]


def test_gzipped_tables_and_a_part_of_the_release(folder: Path) -> None:
    plain = folder / "machine_measurements.csv"
    with gzip.open(folder / "machine_measurements.csv.gz", "wb") as packed:
        packed.write(plain.read_bytes())
    wanted = source(folder).records()
    plain.unlink()
    assert source(folder).records() == wanted
    assert source(folder / "record_list.csv").records() == wanted


def test_bad_rows_have_a_reason(folder: Path) -> None:
    with (folder / "record_list.csv").open("a") as table:
        table.write(
            "10000285,50000001,x,yesterday,files/x\n,50000002,x,2180-07-23 08:44:00,files/x\n10000285,50000003\n"
        )
    problems = {record.id: record.problem for record in source(folder, columns={"ecg": "ecg"}).records()[4:]}
    assert "ecg_time as 2180-07-23 08:44:00, got 'yesterday'" in problems["50000001"].reason
    assert "expected a subject_id" in problems["50000002"].reason
    assert "expected a ecg_time" in problems["50000003"].reason
    assert problems["50000003"].location == "record_list.csv:8"


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "files/../../secret", "C:\\secret"])
def test_paths_that_leave_the_folder_are_refused(folder: Path, path: str) -> None:
    with (folder / "record_list.csv").open("a") as table:
        table.write(f"1,2,x,2180-07-23 08:44:00,{path}\n")
    found = source(folder, columns={"ecg": "ecg"})
    with pytest.raises(BadSample, match="a name relative to"):
        found.fetch(found.records()[-1].values["ecg"][0])
    assert found.fingerprint()


def test_the_fingerprint_follows_tables_and_sizes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("copy") / "other"
    shutil.copytree(folder, copy)
    prints = [source(folder).fingerprint(), source(copy).fingerprint()]
    signal = next(copy.rglob("*.dat"))
    signal.write_bytes(signal.read_bytes() + b"\0")
    prints.append(source(copy).fingerprint())
    text = (copy / "machine_measurements.csv").read_text()
    (copy / "machine_measurements.csv").write_text(text.replace("Sinus", "Junctional"))
    prints.append(source(copy).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_missing_tables_and_unknown_options_are_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data.manifest FOLDER"):
        MimicEcgSource(SourceConfig(source="mimic-ecg"))
    with pytest.raises(UserError, match="no record_list"):
        source(tmp_path / "files")
    with pytest.raises(UserError, match="no option 'rate'"):
        source(folder, options={"rate": 1})
    with pytest.raises(UserError, match="did you mean 'text'"):
        source(folder, columns={"ecg": "ecg", "text": "tetx"})
    (folder / "record_list.csv").write_text("subject_id,study_id\n1,2\n")
    with pytest.raises(UserError, match="a column 'ecg_time'"):
        source(folder).records()
