"""The source joins MIMIC-IV-ECG to MIMIC-IV-ECHO by patient and time."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from echo_files import write_dicom
from golden_files import recording, write_wfdb

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from mmalign.registry import load
from modalities.ecg import MODALITY as ECG
from modalities.echo import MODALITY as ECHO
from modalities.heart.sources.mimic_ecg_echo import MimicEcgEchoSource
from modalities.text import MODALITY as TEXT

REPORT = ",".join(f"report_{number}" for number in range(18))
ECGS = [
    # patient, study, time
    ("10000032", "401", "2180-07-23 08:44:00"),
    ("10000032", "402", "2180-07-25 09:00:00"),  # two days after the echo
    ("10000117", "403", "2181-01-02 10:00:00"),
    ("10000285", "404", "2181-01-02 10:00:00"),  # no echo at all
]
CLIPS = [
    # patient, study, time, file, frames
    ("10000032", "901", "2180-07-23 12:00:00", "files/p10/p10000032/s901/901_0001.dcm", 20),
    ("10000032", "901", "2180-07-23 12:05:00", "files/p10/p10000032/s901/901_0002.dcm", 1),  # a still
    ("10000032", "901", "2180-07-23 12:10:00", "files/p10/p10000032/s901/901_0003.dcm", 20),
    ("10000117", "902", "2181-01-02 23:00:00", "files/p10/p10000117/s902/902_0001.dcm", 20),
    ("10000117", "903", "2181-01-01 20:00:00", "files/p10/p10000117/s903/903_0001.dcm", 20),
]
MEASURED = [
    # patient, measurement, time, kind, name, result
    ("10000032", "71", "2180-07-23 12:00:00", "tte", "lvef", "35.0"),
    ("10000032", "71", "2180-07-23 12:00:00", "tte", "lv_diam", "61"),
    ("10000032", "72", "2180-07-23 09:00:00", "stress", "lvef", "70"),  # nearer, but not at rest
    ("10000117", "73", "2181-01-02 23:00:00", "tte", "lvef", "55"),
    ("10000117", "74", "2181-01-02 11:00:00", "tte", "lvef", ">55"),  # no number
]
NAMES = {"ecg": "ecg", "echo": "echo", "text": "text", "echo_text": "echo_text"}


def release(folder: Path) -> Path:
    """Both releases, in the folders ecg and echo."""
    lines, machine = ["subject_id,study_id,file_name,ecg_time,path"], [f"subject_id,study_id,{REPORT}"]
    for subject, study, time in ECGS:
        place = folder / "ecg" / "files" / study
        place.mkdir(parents=True)
        write_wfdb(place, recording(), name=study)
        lines.append(f"{subject},{study},{study},{time},files/{study}/{study}")
        machine.append(f"{subject},{study},Sinus rhythm{',' * 17}")
    (folder / "ecg" / "record_list.csv").write_text("\n".join(lines) + "\n")
    (folder / "ecg" / "machine_measurements.csv").write_text("\n".join(machine) + "\n")
    rng = np.random.default_rng(0)
    table = ["subject_id,study_id,acquisition_datetime,dicom_filepath"]
    for subject, study, time, name, frames in CLIPS:
        path = folder / "echo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(path, rng.integers(0, 256, (frames, 16, 24)), shape=(frames, 16, 24))
        table.append(f"{subject},{study},{time},{name}")
    (folder / "echo" / "echo-record-list.csv").write_text("\n".join(table) + "\n")
    head = "subject_id,measurement_id,measurement_datetime,test_type,measurement,measurement_description,result,unit"
    rows = [f"{who},{key},{time},{kind},{name},x,{result},%" for who, key, time, kind, name, result in MEASURED]
    with gzip.open(folder / "echo" / "structured-measurement.csv.gz", "wt") as packed:
        packed.write("\n".join([head, *rows]) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return release(tmp_path)


def source(folder: Path, columns: dict[str, str] | None = None, **options: Any) -> MimicEcgEchoSource:
    options = {"echo": str(folder / "echo")} | options
    manifest = str(folder / "ecg")
    return MimicEcgEchoSource(
        SourceConfig(source="mimic-ecg-echo", manifest=manifest, columns=columns or {}, options=options)
    )


def test_echoes_of_the_same_day_are_alternatives(folder: Path) -> None:
    first, second = source(folder, NAMES).records()
    assert (first.id, first.group, second.id, second.group) == ("401", "10000032", "403", "10000117")
    # The still is passed over; a study nearer in time comes first.
    assert first.values["echo"] == tuple(f"echo/files/p10/p10000032/s901/901_000{place}.dcm" for place in (1, 3))
    assert [name[-12:] for name in second.values["echo"]] == ["902_0001.dcm", "903_0001.dcm"]
    assert first.values["ecg"] == ("ecg/files/401/401.dat",)
    assert first.values["text"] == ("Sinus rhythm.",)
    assert first.values["echo_text"] == ("Left ventricular ejection fraction is 35 percent, moderately reduced.",)
    assert (first.targets, second.targets) == ({"ejection_fraction": 35.0}, {"ejection_fraction": 55.0})
    assert (first.labels, first.split) == (("moderately reduced ejection fraction",), None)


def test_window_days_selects_the_echo_studies(folder: Path) -> None:
    assert [record.id for record in source(folder, window_days=2).records()] == ["401", "402", "403"]
    assert [record.id for record in source(folder, window_days=0.3).records()] == ["401"]
    near = source(folder, window_days=0.55).records()
    assert [name[-12:] for name in near[1].values["echo"]] == ["902_0001.dcm"]
    assert source(folder, window_days=0.3, clips_per_study=1).records()[0].values["echo"] == (
        "echo/files/p10/p10000032/s901/901_0001.dcm",
    )


def test_clips_are_chosen_by_a_table(folder: Path) -> None:
    table = folder / "four_chamber.csv"
    table.write_text(f"dicom_filepath,view\n{CLIPS[2][3]},A4C\n{CLIPS[4][3]},A4C\n")
    first, second = source(folder, clips=str(table)).records()
    assert first.values["echo"] == (f"echo/{CLIPS[2][3]}",)
    assert second.values["echo"] == (f"echo/{CLIPS[4][3]}",)
    with pytest.raises(UserError, match="options.clips: expected a CSV"):
        source(folder, clips=str(folder / "none.csv")).records()


def test_without_measurements_there_is_no_target(folder: Path) -> None:
    (folder / "echo" / "structured-measurement.csv.gz").unlink()
    record = source(folder, NAMES).records()[0]
    assert (record.targets, record.labels, "echo_text" in record.values) == ({}, (), False)


def test_it_is_registered_and_read(folder: Path) -> None:
    assert load("sources", "mimic-ecg-echo") is MimicEcgEchoSource
    options = {"echo": str(folder / "echo")}
    data = Dataset.open(
        DataConfig("mimic-ecg-echo", str(folder / "ecg"), options=options, batch_size=1),
        {"ecg": ECG, "echo": ECHO, "text": TEXT},
    )
    assert data.rejected == []
    np.testing.assert_allclose(data.store.get(0, "ecg").signal, recording(), atol=1e-3)
    assert data.store.get(0, "echo", 1).frames.shape == (20, 16, 24)


def test_missing_clips_and_paths_outside_the_folder_are_rejected(folder: Path) -> None:
    (folder / "echo" / CLIPS[0][3]).unlink()
    table = folder / "echo" / "echo-record-list.csv"
    table.write_text(table.read_text() + "10000117,902,2181-01-02 23:00:00,../ecg/record_list.csv\n")
    options = {"echo": str(folder / "echo")}
    data = Dataset.open(
        DataConfig("mimic-ecg-echo", str(folder / "ecg"), options=options, max_rejected=1.0),
        {"ecg": ECG, "echo": ECHO, "text": TEXT},
    )
    assert [(bad.id, bad.tower) for bad in data.rejected] == [("401", "echo"), ("403", "echo")]
    assert "no such file" in data.rejected[0].reason
    assert "leaves the folder" in data.rejected[1].reason
    with pytest.raises(BadSample, match="leaves the folder"):
        data.source.fetch("ecg/../echo/echo-record-list.csv")
    with pytest.raises(BadSample, match="begins with ecg/ or echo/"):
        data.source.fetch("record_list.csv")


def test_an_ecg_without_a_time_is_rejected_where_the_patient_has_an_echo(folder: Path) -> None:
    with (folder / "ecg" / "record_list.csv").open("a") as table:
        table.write("10000117,405,405,soon,files/403/403\n10000999,406,406,soon,files/403/403\n")
    records = source(folder).records()
    assert [record.id for record in records] == ["401", "403", "405"]
    assert "ecg_time" in records[2].problem.reason


def test_the_fingerprint_follows_the_window_and_the_clips(folder: Path) -> None:
    prints = [source(folder).fingerprint(), source(folder).fingerprint(), source(folder, window_days=2).fingerprint()]
    clip = folder / "echo" / CLIPS[0][3]
    clip.write_bytes(clip.read_bytes() + b"\0\0")
    prints.append(source(folder).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"echo": None}, "--data.options.echo FOLDER"),
        ({"echo": "/nowhere"}, "no echo-record-list.csv"),
        ({"window": 3}, "did you mean 'window_days'"),
        ({"window_days": -1}, "a number in 0..3650, got -1"),
        ({"clips_per_study": 1.5}, "a whole number in 1..10000, got 1.5"),
        ({"window_days": True}, "got True"),
    ],
)
def test_wrong_options_are_named(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        source(folder, **options)


def test_a_damaged_table_is_named(folder: Path) -> None:
    table = folder / "echo" / "echo-record-list.csv"
    table.write_text(table.read_text().replace("2181-01-02 23:00:00", "at night"))
    with pytest.raises(UserError, match=r"echo-record-list.csv:5: expected acquisition_datetime.*'at night'"):
        source(folder).records()
    packed = folder / "echo" / "structured-measurement.csv.gz"
    whole = packed.read_bytes()
    table.write_text(table.read_text().replace("at night", "2181-01-02 23:00:00"))
    for damaged in (whole[:-20], whole[:40] + bytes(20) + whole[60:]):
        packed.write_bytes(damaged)
        with pytest.raises(UserError, match=r"structured-measurement.csv.gz: expected a CSV table, got a damaged one"):
            source(folder).records()


def test_damaged_cine_causes_no_pydicom_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its warnings may quote any field."""
    release(tmp_path)
    file = next((tmp_path / "echo").rglob("*.dcm"))
    data = file.read_bytes()
    explicit = data.index(b"1.2.840.10008.1.2.1\0")
    file.write_bytes(data[:explicit] + b"1.2.840.10008.1.2\0\0\0" + data[explicit + 20 :])
    config = SourceConfig("mimic-ecg-echo", str(tmp_path / "ecg"), options={"echo": str(tmp_path / "echo")})
    assert MimicEcgEchoSource(config).records()
    assert not caplog.records
