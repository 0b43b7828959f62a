import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mmalign.data.checking import check_samples
from mmalign.data.config import DataConfig
from mmalign.data.sources.base import SourceConfig
from mmalign.data.sources.shard_names import expand_braces
from mmalign.data.sources.webdataset import WebdatasetSource
from mmalign.errors import BadSample, UserError
from mmalign.modality import Modality

COLUMNS = {"image": "jpg;png", "text": "txt"}
TOWERS = {"image": False, "text": True}


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def source(manifest: str, **settings: Any) -> WebdatasetSource:
    return WebdatasetSource(SourceConfig(**({"manifest": manifest, "columns": COLUMNS, "towers": TOWERS} | settings)))


@pytest.fixture
def shards(tmp_path: Path, png: Any) -> str:
    for number in range(3):
        members = {}
        for key in ("a", "deep/b.x"):
            members[f"{key.split('.')[0]}.png"] = png(number * 20 + len(key))
            members[f"{key.split('.')[0]}.txt"] = f"picture {number} {key}\n".encode()
            members[f"{key.split('.')[0]}.json"] = json.dumps(
                {"caption": [f"c{number}", "d"], "group": number}
            ).encode()
        shard(tmp_path / f"s-{number:03}.tar", members)
    return str(tmp_path / "s-{000..002}.tar")


def test_members_of_one_key_are_one_row(shards: str, png: Any) -> None:
    found = source(shards)
    records = found.records()
    assert [record.location for record in records[:2]] == ["s-000.tar!a", "s-000.tar!deep/b"]
    assert len({record.id for record in records}) == len(records) == 6
    assert records[2].values == {"image": ("s-001.tar!a.png",), "text": ("picture 1 a",)}
    assert records[2].group == "1"
    assert found.fetch("s-001.tar!a.png") == png(21)
    assert source(str(Path(shards).parent)).records() == records
    assert source(shards, columns={"image": "png", "text": "json:caption"}).records()[0].values["text"] == ("c0", "d")


def test_through_the_data_module(shards: str, modalities: dict[str, Modality]) -> None:
    data = DataConfig(source="webdataset", manifest=shards, columns=COLUMNS, validation=0)
    report = check_samples(data, modalities)
    assert (report.rows, report.bad, report.groups) == (6, 0, 3)


def test_labels_come_from_cls_or_json(tmp_path: Path) -> None:
    shard(
        tmp_path / "s.tar",
        {"a.jpg": b"1", "a.cls": b"7\n", "b.jpg": b"2", "b.json": b'{"label": ["x", "y"], "split": "val"}'},
    )
    records = source(str(tmp_path / "s.tar"), columns={"image": "jpg"}).records()
    assert [record.labels for record in records] == [("7",), ("x", "y")]
    assert [record.split for record in records] == [None, "val"]


def test_bad_members_are_bad_rows(tmp_path: Path, png: Any, modalities: dict[str, Modality]) -> None:
    members = {
        "a.png": png(1),
        "a.txt": b"fine",
        "b.png": png(2),
        "c.png": png(3),
        "c.txt": b"caf\xe9",
        "d.png": b"no",
        "d.txt": b"x",
    }
    shard(tmp_path / "s.tar", members | {"e.png": png(4), "e.txt": b"x", "e.json": b"{"})
    data = DataConfig(source="webdataset", manifest=str(tmp_path / "s.tar"), columns=COLUMNS)
    found = {problem.location: problem.reason for problem in check_samples(data, modalities).problems}
    assert sorted(found) == ["s.tar!b", "s.tar!c", "s.tar!d", "s.tar!e"]
    assert found["s.tar!b"] == "expected a value in column 'txt', got an empty one"
    assert found["s.tar!c"] == "expected UTF-8, got the byte 0xe9"
    assert "JSON" in found["s.tar!e"]


def test_brace_patterns() -> None:
    assert expand_braces("plain.tar") == ["plain.tar"]
    assert expand_braces("s-{9..11}.tar") == ["s-9.tar", "s-10.tar", "s-11.tar"]
    assert expand_braces("{a,b}-{00..01}") == ["a-00", "a-01", "b-00", "b-01"]
    for pattern in ("s-{0..1", "s-0}", "{{0..1}}"):
        with pytest.raises(UserError, match="an unmatched brace"):
            expand_braces(pattern)
    for pattern in ("{0..100000000}", "{000..999}{000..999}"):
        with pytest.raises(UserError, match="more than 100000 shards"):
            expand_braces(pattern)


@pytest.mark.parametrize("pattern", ["pipe:touch evil", "https://host/s.tar", "s3://bucket/s.tar", "PIPE:x"])
def test_remote_urls_are_not_opened(pattern: str) -> None:
    with pytest.raises(UserError, match="expected local tar shards"):
        source(pattern)


def test_wrong_settings_are_one_line(shards: str, tmp_path: Path) -> None:
    for settings, message in [
        ({"columns": {"image": "jpeg"}}, r"no member ends in \.jpeg"),
        ({"columns": {}}, r"which members are the samples\? set --data\.columns\.image EXTENSION.*json, png, txt"),
        ({"options": {"max_mb": 1}}, "no option 'max_mb'"),
    ]:
        with pytest.raises(UserError, match=message):
            source(shards, **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no such file"):
        source(str(tmp_path / "s-{000..003}.tar"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="a folder without"):
        source(str(tmp_path / "empty"))
    with pytest.raises(BadSample, match="no such shard"):
        source(shards).fetch("other.tar!a.png")
    with pytest.raises(BadSample, match="leaves the folder"):
        source(shards).fetch("s-000.tar!../a.png")


def test_the_layout_is_what_webdataset_writes(tmp_path: Path, png: Any) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        writer.write({"__key__": "sample0", "png": png(9), "txt": "a caption", "cls": 3})
    (record,) = source(str(tmp_path / "w.tar")).records()
    assert record.values == {"image": ("w.tar!sample0.png",), "text": ("a caption",)}
    assert record.labels == ("3",)
