import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign.data.checking import check_samples
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.data.sources.huggingface import DatasetsSource
from mmalign.errors import BadSample, UserError
from mmalign.modality import Modality

datasets = pytest.importorskip("datasets", reason="needs mmalign[data]")

COLUMNS = {"image": "image", "text": "caption"}
TOWERS = {"image": False, "text": True}


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def source(path: Path, **settings: Any) -> DatasetsSource:
    return DatasetsSource(
        SourceConfig(**({"source": "datasets", "manifest": str(path), "columns": COLUMNS, "towers": TOWERS} | settings))
    )


def table(png: Any, count: int) -> Any:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "vector": datasets.List(datasets.Value("float32")),
        }
    )
    rows = {
        "image": [{"bytes": png(number), "path": None} for number in range(count)],
        "caption": [f"picture {number}" for number in range(count)],
        "label": [number % 2 for number in range(count)],
        "vector": [[number, 0.5] for number in range(count)],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_saved_dataset(tmp_path: Path, png: Any) -> None:
    table(png, 5).select([4, 1, 2]).save_to_disk(str(tmp_path / "d"))
    found = source(tmp_path / "d", columns=COLUMNS | {"vector": "vector"})
    records = found.records()
    assert [record.values["text"] for record in records] == [("picture 4",), ("picture 1",), ("picture 2",)]
    assert [record.labels for record in records] == [("cat",), ("dog",), ("cat",)]
    assert [found.fetch(record.values["image"][0]) for record in records] == [png(4), png(1), png(2)]
    np.testing.assert_array_equal(records[0].values["vector"][0], np.array([4, 0.5], np.float32))
    assert records[1].location == "d:1"
    assert found.fingerprint() == source(tmp_path / "d").fingerprint()
    copy = pickle.loads(pickle.dumps(found))
    assert copy.fetch(copy.records()[1].values["image"][0]) == png(1)


def test_keys_of_a_dict_are_splits(tmp_path: Path, png: Any, modalities: dict[str, Modality]) -> None:
    both = datasets.DatasetDict({"train": table(png, 6), "valid": table(png, 3)})
    both.save_to_disk(str(tmp_path / "d"))
    data = DataConfig(source="datasets", manifest=str(tmp_path / "d"), columns=COLUMNS)
    report = check_samples(data, modalities)
    assert report.splits == {"train": 6, "validation": 3}
    assert report.bad == 0
    assert {shared.of: shared.contents for shared in report.leakage} == {"image": 3, "text": 3}
    read = Dataset.open(data, modalities, splits=["validation"])
    assert read.split("validation").records[0].location == "d/valid:0"


def test_missing_and_damaged_pictures_are_bad_rows(tmp_path: Path, png: Any, modalities: dict[str, Modality]) -> None:
    rows = {
        "image": [{"bytes": png(1), "path": None}, None, {"bytes": b"no", "path": None}],
        "caption": ["a", "b", "c"],
    }
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "d"))
    data = DataConfig(source="datasets", manifest=str(tmp_path / "d"), columns=COLUMNS)
    found = {problem.location: problem.reason for problem in check_samples(data, modalities).problems}
    assert list(found) == ["d:1", "d:2"]
    assert found["d:1"] == "expected a value in column 'image', got an empty one"


def test_paths_out_of_the_folder_are_refused(tmp_path: Path, png: Any) -> None:
    outside = tmp_path / "secret.png"
    outside.write_bytes(png(1))
    paths = [str(outside), "../secret.png", "inside.png"]
    rows = {"image": [{"bytes": None, "path": path} for path in paths], "caption": ["a", "b", "c"]}
    # `datasets` packs the files in as it saves: the hostile folder says afterwards that these are pictures.
    stored = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"image": stored, "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "d"))
    description = tmp_path / "d" / "dataset_info.json"
    info = json.loads(description.read_text())
    info["features"]["image"] = {"_type": "Image"}
    description.write_text(json.dumps(info))
    (tmp_path / "d" / "inside.png").write_bytes(png(2))
    found = source(tmp_path / "d")
    names = [record.values["image"][0] for record in found.records()]
    for name, reason in zip(names, ("absolute", "leaves the folder"), strict=False):
        with pytest.raises(BadSample, match=reason):
            found.fetch(name)
    assert found.fetch(names[2]) == tmp_path / "d" / "inside.png"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_image_folder(tmp_path: Path, png: Any, modalities: dict[str, Modality]) -> None:
    for word, values in {"cat": (1, 2), "dog": (3,)}.items():
        (tmp_path / "pictures" / word).mkdir(parents=True)
        for value in values:
            (tmp_path / "pictures" / word / f"{value}.png").write_bytes(png(value))
    data = DataConfig(
        source="datasets", manifest=str(tmp_path / "pictures"), columns={"image": "image", "label": "label"},
        options={"cache": str(tmp_path / "cache")},
    )  # fmt: skip
    report = check_samples(data, {"image": modalities["image"]})
    assert (report.rows, report.bad, report.labels) == (3, 0, {"cat": 2, "dog": 1})
    read = Dataset.open(data, {"image": modalities["image"]}, splits=[])
    assert read.store.get(2, "image")[0, 0, 0] == 3


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_parquet_file(tmp_path: Path, png: Any) -> None:
    table(png, 4).to_parquet(str(tmp_path / "d.parquet"))
    found = source(tmp_path / "d.parquet", options={"cache": str(tmp_path / "cache")})
    assert [record.values["text"][0] for record in found.records()] == [f"picture {number}" for number in range(4)]
    assert found.fetch(found.records()[3].values["image"][0]) == png(3)


def test_names_of_files_come_from_the_folder_named(tmp_path: Path, png: Any) -> None:
    datasets.Dataset.from_dict({"file": ["a.png"], "caption": ["a"]}).save_to_disk(str(tmp_path / "d"))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.png").write_bytes(png(5))
    found = source(tmp_path / "d", columns={"image": "file", "text": "caption"}, files=str(tmp_path / "files"))
    assert found.fetch(found.records()[0].values["image"][0]) == tmp_path / "files" / "a.png"


def test_wrong_settings_are_one_line(tmp_path: Path, png: Any) -> None:
    table(png, 2).save_to_disk(str(tmp_path / "d"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{")
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("nowhere", {}, "no such file"),
        ("empty", {}, "no file that datasets reads"),
        ("broken", {}, "datasets cannot read it"),
        ("d", {"columns": {"image": "img"}}, "no column 'img'; did you mean 'image'"),
        ("d", {"options": {"script": "x.py"}}, "no option 'script'"),
        ("empty", {"options": {"builder": "x.py"}}, "no 'x.py'"),
    ]
    for name, settings, message in cases:
        with pytest.raises(UserError, match=message) as error:
            source(tmp_path / name, **settings)
        assert "\n" not in str(error.value)
