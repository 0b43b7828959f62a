"""Folders as tables: class folders, splits, text files beside the files, Hugging Face `imagefolder` metadata."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmalign
from mmalign.data.sources import folder_table
from mmalign.data.sources.base import SourceConfig
from mmalign.data.sources.manifest import ManifestSource
from mmalign.data.sources.tables import read_table
from mmalign.errors import UserError


def make(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    table = read_table(folder)
    return [row.cells for row in table.rows(table.columns)]


def test_class_folders(tmp_path: Path) -> None:
    make(tmp_path, {"dog/2.png": "", "dog/1.png": "", "cat/a/3.png": "", ".hidden/4.png": "", "dog/.5.png": ""})
    assert rows(tmp_path) == [
        {"file": "cat/a/3.png", "label": "a"},
        {"file": "dog/1.png", "label": "dog"},
        {"file": "dog/2.png", "label": "dog"},
    ]


def test_split_folders_around_class_folders(tmp_path: Path) -> None:
    make(tmp_path, {"train/dog/1.png": "", "val/cat/2.png": "", "Test/cat/3.png": ""})
    assert [(row["split"], row["label"]) for row in rows(tmp_path)] == [
        ("test", "cat"), ("train", "dog"), ("validation", "cat"),
    ]  # fmt: skip


def test_text_files_beside_pictures(tmp_path: Path) -> None:
    make(tmp_path, {"1.png": "", "1.txt": "\ufeffa dog \n", "2.jpg": "", "2.png": "", "2.txt": "two", "3.png": ""})
    make(tmp_path, {"bad.png": "", "bad.txt": b"caf\xe9", "big.png": "", "big.txt": "x" * (folder_table.MAX_TEXT + 1)})
    (tmp_path / "out.png").write_bytes(b"")
    (tmp_path / "out.txt").symlink_to("/etc/hostname")
    table = read_table(tmp_path)
    assert table.columns == ["file", "text"]
    found = {row.cells["file"]: (row.cells["text"], row.problem) for row in table.rows(table.columns)}
    assert found == {
        "1.png": ("a dog", ""), "2.jpg": ("two", ""), "2.png": ("two", ""), "3.png": (None, ""),
        "bad.png": (None, "expected UTF-8 in bad.txt, got the byte 0xe9"),
        "big.png": (None, "expected a text file of at most 1048576 bytes, got more: big.txt"),
        "out.png": (None, f"expected a text file inside {tmp_path.name}, got a link or another thing: out.txt"),
    }  # fmt: skip


def test_text_files_alone_are_files(tmp_path: Path) -> None:
    make(tmp_path, {"good/1.txt": "fine", "bad/2.txt": "poor"})
    assert rows(tmp_path) == [{"file": "bad/2.txt", "label": "bad"}, {"file": "good/1.txt", "label": "good"}]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_of_an_imagefolder(kind: str, tmp_path: Path) -> None:
    texts = {"train": "a dog", "test": "a cat"}
    for split, text in texts.items():
        row = {"file_name": "1.png", "caption": text}
        lines = (
            f"file_name,caption\n1.png,{text}\n,none\n" if kind == "csv" else json.dumps(row) + '\n{"caption": "x"}\n'
        )
        make(tmp_path / split, {f"metadata.{kind}": lines, "1.png": "", "unlisted.png": ""})
    table = read_table(tmp_path)
    assert table.columns == ["file", "split", "caption"]
    found = [(row.where, row.cells, row.problem) for row in table.rows(table.columns)]
    first = 2 if kind == "csv" else 1
    assert found[0] == (
        f"test/metadata.{kind}:{first}", {"file": "test/1.png", "split": "test", "caption": "a cat"}, "",
    )  # fmt: skip
    assert found[2][1] == {"file": "train/1.png", "split": "train", "caption": "a dog"}
    assert found[1][2] == "expected the name of a file in column 'file_name', got none"


def test_folder_without_files_or_column_file_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder with files"):
        read_table(tmp_path)
    make(tmp_path, {"metadata.csv": "name\n1.png\n"})
    with pytest.raises(UserError, match="expected a column file_name, got name"):
        read_table(tmp_path)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_table, "MAX_FILES", 2)
    make(tmp_path, {"1": "", "2": "", "3": ""})
    with pytest.raises(UserError, match="expected at most 2 files; write a table of them"):
        read_table(tmp_path)


def test_the_hash_follows_names_labels_and_content(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", {"dog/1.png": "a", "cat/2.png": "b"})

    def fingerprint() -> str:
        config = SourceConfig(manifest=str(folder), columns={"image": "file"}, towers={"image": False})
        return ManifestSource(config).fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    (folder / "dog/1.png").write_bytes(b"c")
    content = fingerprint()
    (folder / "cat").rename(folder / "lion")
    assert len({before, content, fingerprint()}) == 3


def test_a_folder_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(24):
        file = tmp_path / "pictures" / ("red" if index % 2 else "blue") / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
        picture[..., 0 if index % 2 else 2] += 180
        Image.fromarray(picture).save(file)
    data = mmalign.DataConfig(
        manifest=str(tmp_path / "pictures"), columns={"image": "file", "text": "label"}, validation=0.25
    )
    report = mmalign.check(data)
    assert not report.bad
    assert sum(report.splits.values()) == 24
