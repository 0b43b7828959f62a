"""Missing values are nothing in every cell of every table; numbers that a null made floats keep their names."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.cells import labels_of, name_of
from mmalign.data.sources.manifest import ManifestSource
from mmalign.registry import load

NAN = float("nan")
ROWS: list[dict[str, Any]] = [
    {"text": "t 0", "label": NAN, "group": NAN, "split": "train", "age": NAN},
    {"text": "t 1", "label": 2.0, "group": 7.0, "split": "train", "age": 61.0},
    {"text": None, "label": 2.5, "group": 8.0, "split": None, "age": 60.0},
]


def jsonl(folder: Path) -> Source:
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    return manifest(folder / "t.jsonl")


def parquet(folder: Path) -> Source:
    columns = {name: pa.array([row[name] for row in ROWS], from_pandas=False) for name in ROWS[0]}
    assert columns["label"].null_count == 0  # NaN, not null
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return manifest(folder / "t.parquet")


def huggingface(folder: Path) -> Source:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    datasets.Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    config = SourceConfig("datasets", str(folder / "saved"), columns={"text": "text"}, towers={"text": True})
    return load("sources", "datasets")(config)  # type: ignore[no-any-return]


def webdataset(folder: Path) -> Source:
    import io
    import tarfile

    with tarfile.open(folder / "t.tar", "w") as archive:
        for index, row in enumerate(ROWS):
            data = json.dumps(row).encode()
            member = tarfile.TarInfo(f"{index}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    config = SourceConfig("webdataset", str(folder / "t.tar"), columns={"text": "json:text"}, towers={"text": True})
    return load("sources", "webdataset")(config)  # type: ignore[no-any-return]


def manifest(path: Path) -> Source:
    options = {"targets": ["age"]}
    config = SourceConfig(manifest=str(path), columns={"text": "text"}, towers={"text": True}, options=options)
    return ManifestSource(config)


@pytest.mark.parametrize("make", [jsonl, parquet, huggingface, webdataset])
def test_missing_values_are_no_names(make: Callable[[Path], Source], tmp_path: Path) -> None:
    records = make(tmp_path).records()
    assert [record.labels for record in records] == [(), ("2",), ("2.5",)]
    assert [record.group for record in records] == [None, "7", "8"]
    assert [record.values.get("text") for record in records] == [("t 0",), ("t 1",), None]
    assert all(record.problem is None for record in records)
    if make in (jsonl, parquet):
        assert [dict(record.targets) for record in records] == [{}, {"age": 61}, {"age": 60}]


def test_a_missing_id_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": NaN, "text": "a"}\n{"id": 3.0, "text": "b"}\n')
    one, two = manifest_without_targets(tmp_path / "t.jsonl")
    assert one.problem is not None
    assert one.problem.reason == "expected an id in column 'id', got none"
    assert two.id == "3"


def manifest_without_targets(path: Path) -> list[Record]:
    return list(ManifestSource(SourceConfig(manifest=str(path), columns={"text": "text"})).records())


def test_a_class_label_of_minus_one_is_none(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": -1}]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    config = SourceConfig("datasets", str(tmp_path / "saved"), columns={"text": "text"}, towers={"text": True})
    assert [record.labels for record in load("sources", "datasets")(config).records()] == [("yes",), ()]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (np.float64("nan"), ()),
        (np.float32(2), ("2",)),
        ([NAN, 1.0, "dog", None, " "], ("1", "dog")),
        (np.array([1.0, NAN]), ("1",)),
        (True, ("True",)),
        (10**20, (str(10**20),)),
        (math.inf, ("inf",)),
    ],
)
def test_labels_of_a_cell(cell: Any, names: tuple[str, ...]) -> None:
    assert labels_of(cell) == names


def test_an_infinite_name_is_text() -> None:
    assert name_of(-math.inf) == "-inf"


def test_a_parquet_column_twice_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array(["x"]), pa.array(["y"])], names=["text", "text"]), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet: the column 'text' occurs twice; rename one"):
        manifest_without_targets(tmp_path / "t.parquet")


def test_a_separator_does_not_divide_samples_that_may_contain_it(tmp_path: Path) -> None:
    Chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    rows = [{"m": "CCO |$_AP1;;$|", "e": "a.npz | b.npz"}, {"m": block, "e": "a.npz"}]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    config = SourceConfig(
        manifest=str(tmp_path / "t.jsonl"), columns={"molecule": "m", "echo": "e"}, separator="|",
        towers={"molecule": True, "echo": False}, separable={"molecule": False, "echo": True},
    )  # fmt: skip
    one, two = ManifestSource(config).records()
    assert one.values == {"molecule": ("CCO |$_AP1;;$|",), "echo": ("a.npz", "b.npz")}
    assert two.values["molecule"] == (block,)
    molecule = load("modalities", "molecule")
    assert not molecule.separable
    assert molecule.read(two.values["molecule"][0]).smiles == "CCO"
