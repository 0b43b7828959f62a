import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmalign
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record, SourceConfig
from mmalign.data.sources.cells import alternatives
from mmalign.data.sources.manifest import ManifestSource
from mmalign.errors import UserError
from mmalign.model import TowerConfig, modality_of
from mmalign.safe_io.safe_yaml import read_yaml

COLUMNS = {"image": "file", "text": "caption"}
TOWERS = {"image": False, "text": True}


def source(path: Path, **settings: Any) -> ManifestSource:
    given = {"columns": COLUMNS, "towers": TOWERS} | settings
    return ManifestSource(SourceConfig(manifest=str(path), **given))


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def reasons(records: list[Record]) -> dict[str, str]:
    return {record.location: record.problem.reason for record in records if record.problem}


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "jsonl", "parquet"])
def test_every_kind_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    rows = [
        {"id": "x1", "file": "a.png", "caption": 'a, "quoted" dog', "group": "g", "label": "dog", "split": "train"},
        {"id": "x2", "file": "b.png", "caption": "ein Hund – größer", "group": "g", "label": "cat", "split": "val"},
    ]
    path = tmp_path / f"names.{kind}"
    header = list(rows[0])
    if kind == "csv":
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            writer.writerows(rows)
    elif kind in ("tsv", "txt"):
        write(path, "\n".join("\t".join(row) for row in [header, *([*row.values()] for row in rows)]))
    elif kind == "jsonl":
        write(path, "\n\n".join(json.dumps(row) for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    first, second = source(path).records()
    assert first.values == {"image": ("a.png",), "text": ('a, "quoted" dog',)}
    assert (first.id, first.group, first.labels, first.split, first.problem) == ("x1", "g", ("dog",), "train", None)
    assert second.values["text"] == ("ein Hund – größer",)
    assert second.split == "val"
    assert first.location == f"names.{kind}:{1 if kind in ('jsonl', 'parquet') else 2}"


def test_several_captions(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", "file,caption\na | b.png,one | two |  | three\n")
    (record,) = source(path, separator=" | ").records()
    assert record.values == {"image": ("a", "b.png"), "text": ("one", "two", "three")}
    path = write(tmp_path / "n.jsonl", '{"file": ["a.png", "b.png"], "caption": ["one", "two"]}\n')
    assert source(path).records()[0].values == {"image": ("a.png", "b.png"), "text": ("one", "two")}
    pq.write_table(pa.table({"file": ["a.png"], "caption": [["one", "two"]]}), tmp_path / "n.parquet")
    assert source(tmp_path / "n.parquet").records()[0].values["text"] == ("one", "two")


def test_labels_may_be_several(tmp_path: Path) -> None:
    columns = COLUMNS | {"label": "classes"}
    path = write(tmp_path / "n.csv", "file,caption,classes\na.png,x,dog; cat\nb.png,x,\n")
    assert [r.labels for r in source(path, columns=columns, separator=";").records()] == [("dog", "cat"), ()]
    path = write(tmp_path / "n.jsonl", '{"file": "a", "caption": "x", "classes": [3, "cat"]}\n')
    assert source(path, columns=columns).records()[0].labels == ("3", "cat")


def test_inline_values_of_parquet(tmp_path: Path) -> None:
    vectors = pa.array([[0.5, 1.5], None, [2.5, None]], pa.list_(pa.float32()))
    fixed = pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int16(), 2))
    stored = [{"bytes": b"img", "path": None}, {"bytes": None, "path": "p.png"}, None]
    table = pa.table({"v": vectors, "f": fixed, "raw": [b"one", b"two", b"three"], "hub": stored})
    pq.write_table(table, tmp_path / "n.parquet", row_group_size=2)
    columns = {"v": "v", "f": "f", "raw": "raw", "hub": "hub"}
    one, two, three = source(tmp_path / "n.parquet", columns=columns, towers={}).records()
    np.testing.assert_array_equal(one.values["v"][0], np.array([0.5, 1.5], np.float32))
    assert one.values["v"][0].dtype == np.float32
    assert "v" not in two.values
    assert np.isnan(three.values["v"][0][1])
    np.testing.assert_array_equal(two.values["f"][0], [3, 4])
    assert [r.values["raw"] for r in (one, two, three)] == [(b"one",), (b"two",), (b"three",)]
    assert (one.values["hub"], two.values["hub"], "hub" in three.values) == ((b"img",), ("p.png",), False)


def test_vectors_in_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "n.jsonl", '{"v": [1, 2.5]}\n{"v": [1e300, NaN]}\n{"v": [[1, 2], [3]]}\n{"v": []}\n')
    records = source(path, columns={"v": "v"}, towers={"v": False}).records()
    np.testing.assert_array_equal(records[0].values["v"][0], np.array([1, 2.5], np.float32))
    assert np.isinf(records[1].values["v"][0][0])
    assert records[2].values["v"] == ([[1, 2], [3]],)  # for the modality to refuse
    assert "v" not in records[3].values


def test_a_missing_column_names_the_nearest_and_all(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", "filename,caption,x\na,b,c\n")
    with pytest.raises(UserError) as error:
        source(path)
    message = str(error.value)
    assert "no column 'file'" in message
    assert "did you mean 'filename'" in message
    assert "caption, filename, x" in message
    assert "--data.columns.image" in message
    assert "\n" not in message
    with pytest.raises(UserError, match="no column 'clas'"):
        source(path, columns={"image": "filename", "label": "clas"})
    with pytest.raises(UserError, match=r"set --data\.columns\.image COLUMN and --data\.columns\.text COLUMN"):
        source(path, columns={})


def test_reserved_columns_may_be_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", "file,caption,patient,id\na.png,x,p1,7\n")
    (record,) = source(path, columns=COLUMNS | {"group": "patient"}).records()
    assert (record.group, record.id) == ("p1", "7")


def test_bad_rows_do_not_affect_other_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path / "n.csv",
        b"\xef\xbb\xbffile,caption\r\n"  # a BOM, and Windows' line ends
        b"a.png,fine\r\n"
        b"b.png\r\n"
        b"c.png,caf\xe9\r\n"
        b"\r\n"
        b'd.png,"two\nlines"\r\n'
        b'e.png,"broken"x\r\n'
        b"f.png,fine\r\n",
    )
    records = list(source(path).records())
    found = reasons(records)
    assert [record.location for record in records if not record.problem] == ["n.csv:2", "n.csv:6", "n.csv:9"]
    assert found["n.csv:3"] == "expected 2 cells as the header has, got 1"
    assert found["n.csv:4"] == "expected UTF-8, got the byte 0xe9 after 'caf'"
    assert found["n.csv:8"].startswith("expected a CSV row")
    assert records[3].values["text"] == ("two\nlines",)


def test_bad_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"file": "a", "caption": "x"}',
        "{",
        "[1]",
        '{"file": "b"}',
        '{"file": "c", "caption": ["x", " "]}',
        "[" * 9999,
    ]
    records = list(source(write(tmp_path / "n.jsonl", "\n".join(lines))).records())
    found = reasons(records)
    assert sorted(found) == ["n.jsonl:2", "n.jsonl:3", "n.jsonl:5", "n.jsonl:6"]
    assert "got a list" in found["n.jsonl:3"]
    assert found["n.jsonl:5"] == "expected a value in column 'caption', got an empty one at position 2 of 2"
    assert "text" not in records[3].values


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("n.csv", b"", "expected a header line"),
        ("n.csv", b"file,caption\n", "expected rows below the header"),
        ("n.csv", b"file,caption,file\n", "'file' occurs twice"),
        ("n.csv", b'file,caption\na,"open\nb,c\n', "n.csv:2: a quote that is opened there is never closed"),
        ("n.csv", "file,caption\na,b\n".encode("utf-16"), "got UTF-16"),
        ("n.csv", b"f\xffle,caption\na,b\n", "expected UTF-8"),
        ("n.jsonl", b"", "expected a JSON object"),
        ("n.parquet", b"PAR1 no", "expected Parquet"),
        ("n.xlsx", b"PK", "expected a manifest that ends in"),
    ],
)
def test_damaged_tables_are_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        source(write(tmp_path / name, data))
    assert "\n" not in str(error.value)


def test_missing_manifest_and_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        source(tmp_path / "n.csv")
    with pytest.raises(UserError, match="needs a table"):
        ManifestSource(SourceConfig())
    path = write(tmp_path / "n.csv", "file,caption\na,b\n")
    with pytest.raises(UserError, match="did you mean 'max_file_mb'"):
        source(path, options={"max_file_md": 3})
    with pytest.raises(UserError, match="a positive number"):
        source(path, options={"max_file_mb": "many"})


def test_files_come_from_the_manifests_folder_or_from_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", "file,caption\na.png,b\n")
    (tmp_path / "a.png").write_bytes(b"here")
    assert source(path).fetch("a.png") == tmp_path / "a.png"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes(b"there")
    assert source(path, files=str(tmp_path / "other")).fetch("a.png") == tmp_path / "other" / "a.png"


def test_fingerprint_follows_manifest_and_files_not_their_place(tmp_path: Path) -> None:
    hashes = []
    for folder, caption, data in (("1", "b", b"x"), ("2", "b", b"x"), ("3", "c", b"x"), ("4", "b", b"y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(data)
        hashes.append(source(write(tmp_path / folder / "n.csv", f"file,caption\na.png,{caption}\n")).fingerprint())
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_tsv_cells_of_a_spreadsheet_and_cells_with_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "n.tsv", 'file\tcaption\na\t"say ""x"""\nb\t5" disk\nc\t"\nd\t"a" and "b"\n')
    assert [r.values["text"][0] for r in source(path).records()] == ['say "x"', '5" disk', '"', '"a" and "b"']


def test_pickles_for_a_worker(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", "file,caption\na.png,b\n")
    assert list(pickle.loads(pickle.dumps(source(path))).records()) == list(source(path).records())


def test_alternatives_of_blank_cells() -> None:
    assert alternatives(None) == alternatives("") == alternatives("  ") == alternatives(" ; ", ";") == ()


def test_real_manifests(real_data: Path) -> None:
    emoji = source(real_data / "noto_emoji" / "names.tsv", columns={"image": "file", "text": "name"})
    assert len(emoji.records()) == 1405
    assert not any(record.problem for record in emoji.records())
    chebi = source(real_data / "chebi20" / "validation.txt", columns={"image": "SMILES", "text": "description"})
    assert len(chebi.records()) == 3301
    assert not any(record.problem for record in chebi.records())
    heart = source(real_data / "ptbxl_500" / "ptbxl_database.csv", columns={"image": "filename_lr", "text": "report"})
    assert len(heart.records()) == 434


def test_targets_are_numbers_by_column(tmp_path: Path) -> None:
    text = "file,caption,ef,age\na,x,55.5,70\nb,y,,1e2\nc,z, ,\nd,x,low,60\ne,y,nan,inf\n"
    records = source(write(tmp_path / "t.csv", text), options={"targets": ["ef", "age"]}).records()
    assert [dict(record.targets) for record in records] == [
        {"ef": 55.5, "age": 70.0}, {"age": 100.0}, {}, {"age": 60.0}, {}
    ]  # fmt: skip
    assert reasons(records) == {
        "t.csv:5": "expected a finite number in column 'ef', got 'low'",
        "t.csv:6": "expected a finite number in column 'age', got 'inf'",
    }
    assert records[0].values == {"image": ("a",), "text": ("x",)}
    assert source(tmp_path / "t.csv").records()[0].targets == {}


@pytest.mark.parametrize("cell", [True, [1.0], {"a": 1}, 10**400], ids=["true", "list", "object", "huge"])
def test_cells_without_a_number_give_no_target(tmp_path: Path, cell: Any) -> None:
    row = json.dumps({"file": "a", "caption": "x", "ef": cell})
    (record,) = source(write(tmp_path / "t.jsonl", row), options={"targets": "ef"}).records()
    assert "finite number in column 'ef'" in record.problem.reason
    assert record.targets == {}


def test_a_wrong_target_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "file,caption,ejection\na,x,1\n")
    with pytest.raises(UserError, match="did you mean 'ejection'"):
        source(path, options={"targets": ["ejecton"]})
    with pytest.raises(UserError, match="a list of columns"):
        source(path, options={"targets": 3})


def test_parquet_cells_that_are_not_utf8_are_faults_of_their_rows(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"caf\xe9", None, b"fine"], pa.binary()).view(pa.string())
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 2, 4]), pa.array([b"a", b"b", b"\xff", b"c"]).view(pa.string()))
    pq.write_table(pa.table({"text": texts, "label": lists}), tmp_path / "t.parquet")
    columns = {"text": "text", "label": "label"}
    records = ManifestSource(
        SourceConfig(manifest=str(tmp_path / "t.parquet"), columns=columns, towers={"text": True})
    ).records()
    assert [record.problem.reason if record.problem else record.values["text"] for record in records[:2]] == [
        ("good",),
        "expected UTF-8, got the byte 0xe9",
    ]
    assert records[2].values == {}
    assert records[3].problem is not None
    assert "0xff" in records[3].problem.reason


@pytest.mark.parametrize("source", ["manifest", "webdataset", "datasets"])
def test_impossible_file_names_are_user_errors(source: str) -> None:
    text = modality_of("text", TowerConfig())
    for name in ("a" * 5000 + ".csv", "a\0b.csv"):
        with pytest.raises(UserError):
            Dataset.open(DataConfig(source, name, columns={"text": "text"}), {"text": text})
        with pytest.raises(UserError):
            mmalign.load(name)
        with pytest.raises(UserError):
            read_yaml(name, "prompts")
