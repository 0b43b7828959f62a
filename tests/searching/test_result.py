"""Drawing results: their samples come from data that may have changed since they were embedded."""

import logging
from pathlib import Path

import numpy as np
import pytest

from mmalign.data.config import DataConfig
from mmalign.data.contents import contents
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.searching.result import Hit, SearchResult


def table(folder: Path, *names: str) -> DataConfig:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        np.save(folder / name, np.full(8, index, np.float32))
    lines = ["id,right", *(f"r{index},{name}" for index, name in enumerate(names))]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return DataConfig(manifest=str(folder / "t.csv"), columns={"right": "right"}, validation=0.0)


def test_data_that_changed_since_they_were_embedded(
    model: Aligner, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    modalities = {"right": model.modalities["right"]}
    before = Dataset.open(table(tmp_path / "one", "a.npy", "b.npy"), modalities)
    monkeypatch.setattr(model, "provenance", {"contents": contents(before)})
    found = SearchResult(model, [[1.0] * 8], [[Hit("r1", 0.5, "b.npy"), Hit("r0", 0.4, "a.npy")]], "left", "right")
    with caplog.at_level(logging.WARNING, "mmalign"):
        found.figure(table(tmp_path / "one", "a.npy", "b.npy"))
        assert not caplog.records
        found.figure(table(tmp_path / "two", "a.npy", "b.npy", "c.npy"))
    assert "the data differ from those that the model was trained on: 3 rows (were 2)" in caplog.text
    with pytest.raises(UserError, match=r"'r1' has other values of right than the table: expected 'b\.npy', got 'd"):
        found.figure(table(tmp_path / "three", "a.npy", "d.npy"))
