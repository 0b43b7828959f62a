"""What differs between two data sets is named; the split of a record does not depend on the towers that are read."""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from mmalign.data import contents as module
from mmalign.data.config import DataConfig
from mmalign.data.contents import contents, differences, warn_changed
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import opened
from mmalign.model import TowerConfig, fit_transforms, modality_of

MODALITIES = {name: modality_of(name, TowerConfig()) for name in ("image", "text")}
TRANSFORMS = fit_transforms({name: TowerConfig() for name in MODALITIES}, {"image": [], "text": ["a red disc"]})
ROWS = [f"{number}.png,text {number},{number % 2},p{number % 5}" for number in range(20)]


@pytest.fixture(autouse=True)
def _first_time() -> Iterator[None]:
    module._WARNED.clear()
    yield
    module._WARNED.clear()


def table(folder: Path, rows: list[str], colour: int = 0) -> DataConfig:
    folder.mkdir(exist_ok=True)
    for number in range(20):
        Image.new("RGB", (4, 4), (colour, number, 0)).save(folder / f"{number}.png")
    (folder / "pairs.csv").write_text("\n".join(["image,text,label,group", *rows]), encoding="utf-8")
    columns = {"image": "image", "text": "text"}
    return DataConfig(manifest=str(folder / "pairs.csv"), columns=columns, validation=0.4)


def open_(config: DataConfig, *towers: str) -> Dataset:
    return Dataset.open(config, {tower: MODALITIES[tower] for tower in towers or MODALITIES}, splits=[])


def replaced(index: int, old: str, new: str) -> list[str]:
    return [*ROWS[:index], ROWS[index].replace(old, new), *ROWS[index + 1 :]]


@pytest.mark.parametrize(
    ("rows", "colour", "found"),
    [
        (ROWS, 0, []),
        (replaced(2, "text 2", "text two"), 0, ["other values of text"]),
        (replaced(2, ",0,", ",1,"), 0, ["other labels"]),
        (replaced(2, "p2", "p7"), 0, ["other groups", "other division into splits"]),
        (ROWS[:19], 0, ["19 rows (were 20)", "other ids", "other labels", "other groups", "other targets",
                        "other division into splits", "other values of image", "other values of text"]),
        (ROWS, 9, ["other content of the files, or of columns that are not used"]),
    ],
    ids=["equal", "text", "label", "group", "a row less", "pictures"],
)  # fmt: skip
def test_changed_data_are_described_for_any_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: list[str], colour: int, found: list[str]
) -> None:
    trained = {"contents": contents(open_(table(tmp_path / "one", ROWS)))}
    there = open_(table(tmp_path / "two", rows, colour))
    assert differences(trained["contents"], contents(there)) == found
    with caplog.at_level(logging.WARNING, "mmalign"):
        for _ in range(2):
            warn_changed(there, trained)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ([f"the data differ from those that the model was trained on: {', '.join(found)}"] if found else [])


def test_other_data_and_bundles_without_hashes_are_not_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = {"contents": contents(open_(table(tmp_path / "one", ROWS)))}
    (tmp_path / "one" / "pairs.csv").rename(tmp_path / "one" / "test.csv")
    warn_changed(open_(DataConfig(manifest=str(tmp_path / "one" / "test.csv"), columns={"text": "text"})), trained)
    warn_changed(open_(table(tmp_path / "two", ROWS[:9])), {"data": "0"})
    assert not caplog.records


def test_data_of_one_tower_have_the_split_of_all_towers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without groups the names of files decide the split, also where only the texts are embedded."""
    config = table(tmp_path, [row.rpartition(",")[0] + "," for row in ROWS])
    whole = open_(config)
    provenance = {"contents": contents(whole)}
    model: Any = SimpleNamespace(modalities=MODALITIES, provenance=provenance, transforms=TRANSFORMS)
    for tower in MODALITIES:
        alone = opened(model, config, (tower,), "validation")
        assert alone.splits == whole.splits
        assert alone.towers == (tower,)
        assert all(set(record.values) == {tower} for record in alone.records)
        assert 0 < len(alone.split("validation")) < 20
    assert open_(config, "text").splits != whole.splits  # by ids: a source that knows of no files
    assert not caplog.records
    table(tmp_path, [row.rpartition(",")[0] + "," for row in replaced(3, "text 3", "text three")])
    opened(model, config, ("text",), "validation")
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["other values of text"]
