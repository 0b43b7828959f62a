"""The source reads EchoNet-Dynamic's own table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from echo_files import write_video

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from mmalign.registry import load
from modalities.echo import MODALITY as ECHO
from modalities.heart.sources.echonet import EchonetSource
from modalities.text import MODALITY as TEXT

HEAD = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
ROWS = [
    "0X100009310A3BD7FC,78.49840649,14.88136773,69.21053386,112,112,50,174,VAL",
    "0X1002E8FBACD08477.avi,59.10198835,40.38387603,98.74288352,112,112,50,215,TRAIN",
    "0X1005D03EED19C65B,35.0,24.03,,112,112,55,104,TEST",
]


def release(folder: Path) -> Path:
    """Three clips in the layout of the release."""
    (folder / "FileList.csv").write_text("\n".join([HEAD, *ROWS]) + "\n")
    (folder / "Videos").mkdir()
    rng = np.random.default_rng(0)
    for row in ROWS:
        name = row.split(",")[0].removesuffix(".avi")
        frames = np.repeat(rng.integers(0, 256, (8, 32, 32, 1), dtype=np.uint8), 3, axis=3)
        (folder / "Videos" / f"{name}.avi").write_bytes(write_video(frames))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return release(tmp_path)


def source(folder: Path, **values: Any) -> EchonetSource:
    return EchonetSource(SourceConfig(source="echonet-dynamic", manifest=str(folder), **values))


def test_records_of_echonet(folder: Path) -> None:
    records = source(folder).records()
    assert [record.id for record in records] == ["0X100009310A3BD7FC", "0X1002E8FBACD08477", "0X1005D03EED19C65B"]
    assert all(record.group == record.id and record.problem is None for record in records)
    assert records[0].values == {
        "echo": ("Videos/0X100009310A3BD7FC.avi",),
        "text": ("Left ventricular ejection fraction is 78 percent, normal.",),
    }
    assert records[1].values["echo"] == ("Videos/0X1002E8FBACD08477.avi",)
    assert records[2].labels == ("moderately reduced ejection fraction",)
    assert records[0].targets == {
        "ejection_fraction": 78.49840649,
        "end_systolic_volume": 14.88136773,
        "end_diastolic_volume": 69.21053386,
    }
    assert records[2].targets == {"ejection_fraction": 35.0, "end_systolic_volume": 24.03}


def test_an_index_column_is_passed_over(folder: Path) -> None:
    wanted = source(folder).records()
    lines = (folder / "FileList.csv").read_text().splitlines()
    (folder / "FileList.csv").write_text(
        "\n".join(f"{'' if place == 0 else place},{line}" for place, line in enumerate(lines)) + "\n"
    )
    assert source(folder).records() == wanted


def test_it_is_registered_and_read_by_its_split(folder: Path) -> None:
    assert load("sources", "echonet-dynamic") is EchonetSource
    data = Dataset.open(DataConfig("echonet-dynamic", str(folder)), {"echo": ECHO, "text": TEXT})
    assert data.rejected == []
    assert data.splits == ("validation", "train", "test")
    assert data.store.get(0, "echo").frames.shape == (8, 32, 32)


def test_bad_rows_have_a_reason(folder: Path) -> None:
    with (folder / "FileList.csv").open("a") as table:
        table.write("A,high,1,2,112,112,50,9,TRAIN\nB,120,1,2,112,112,50,9,TRAIN\n,50,1,2,112,112,50,9,TRAIN\nC,50\n")
    data = Dataset.open(DataConfig("echonet-dynamic", str(folder), max_rejected=1.0), {"echo": ECHO, "text": TEXT})
    reasons = {bad.location: bad.reason for bad in data.rejected}
    assert "EF as a number in 0..100, got 'high'" in reasons["FileList.csv:5"]
    assert "got '120'" in reasons["FileList.csv:6"]
    assert "expected a FileName" in reasons["FileList.csv:7"]
    assert "name of a split" in reasons["FileList.csv:8"]
    assert len(reasons) == 4


@pytest.mark.parametrize("name", ["../FileList.csv\x00", "../../etc/passwd", "a/../../../secret", "..\\..\\secret"])
def test_names_that_leave_the_folder_are_refused(folder: Path, name: str) -> None:
    with (folder / "FileList.csv").open("a") as table:
        table.write(f"{name},50,1,2,112,112,50,9,TRAIN\n")
    found = source(folder)
    with pytest.raises(BadSample, match="a name relative to"):
        found.fetch(found.records()[-1].values["echo"][0])


def test_the_fingerprint_follows_table_and_files(folder: Path) -> None:
    prints = [source(folder).fingerprint(), source(folder).fingerprint()]
    next((folder / "Videos").iterdir()).write_bytes(b"")
    prints.append(source(folder).fingerprint())
    table = folder / "FileList.csv"
    table.write_text(table.read_text().replace("35.0", "45.0"))
    prints.append(source(folder).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_missing_files_and_unknown_options_are_errors(folder: Path) -> None:
    with pytest.raises(UserError, match="--data.manifest FOLDER"):
        EchonetSource(SourceConfig(source="echonet-dynamic"))
    with pytest.raises(UserError, match=r"no FileList.csv"):
        source(folder / "Videos")
    with pytest.raises(UserError, match="no option 'view'"):
        source(folder, options={"view": 1})
    (folder / "FileList.csv").write_text("FileName,EF\nA,50\n")
    with pytest.raises(UserError, match="a column 'Split'"):
        source(folder).records()
