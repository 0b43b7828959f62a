"""Batches of near rows, from a modality's table to the loader."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.split import Split
from mmalign.errors import UserError
from mmalign.modality import Modality
from mmalign.training.data_module import TrainingData


def by_brightness(samples: Sequence[Any], count: int) -> np.ndarray:
    means = np.array([np.asarray(sample, dtype=float).mean() for sample in samples])
    apart = np.abs(means[:, None] - means)
    np.fill_diagonal(apart, np.inf)
    order = np.argsort(apart, axis=1, kind="stable")[:, :count]
    return np.pad(order, ((0, 0), (0, max(0, count - len(samples)))), constant_values=-1)


def prepared(path: Path, modalities: dict[str, Modality], **settings: Any) -> TrainingData:
    given = {"columns": {"image": "file", "text": "text"}, "batch_size": 8, "validation": 0.0, "seed": 1} | settings
    data = Dataset.open(DataConfig(manifest=str(path), **given), modalities)
    transforms = {
        "image": modalities["image"].transform("convnet", {}, size=8),
        "text": modalities["text"].transform("transformer", {}),
    }
    transforms["text"].fit(data.split("train").samples("text"))
    return TrainingData(data, transforms)


def neighbours_in_batches(data: TrainingData) -> int:
    parts = [batch.ids.tolist() for batch in data.train_dataloader()]
    assert sorted(place for part in parts for place in part) == list(range(40))
    return sum(place + 1 in part for part in parts for place in part)


def test_samples_are_decoded_one_at_a_time(
    pictures: Path, modalities: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(pictures, modalities, hard_negatives="image", cache_gb=0.0)
    decoded, get = list[int](), data.data.store.get
    monkeypatch.setattr(data.data.store, "get", lambda index, *more: decoded.append(index) or get(index, *more))

    def near(samples: Sequence[Any], count: int) -> np.ndarray:
        decoded.clear()
        np.testing.assert_array_equal(samples[7:9][1], samples[8])
        assert decoded == [8, 8]
        return by_brightness(samples, count)

    monkeypatch.setattr(modalities["image"], "neighbours", near, raising=False)
    data.train_dataloader()
    assert decoded == [8, 8, *range(40)]


def test_near_pictures_are_drawn_together(
    pictures: Path, modalities: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def near(samples: Sequence[Any], count: int) -> np.ndarray:
        calls.append(count)
        return by_brightness(samples, count)

    monkeypatch.setattr(modalities["image"], "neighbours", near, raising=False)
    alone = neighbours_in_batches(prepared(pictures, modalities))
    data = prepared(
        pictures, modalities, hard_negatives="image", hard_negative_fraction=1.0, hard_negative_group_size=4
    )
    assert neighbours_in_batches(data) > alone + 10
    data.resume(2, 24)
    assert len(list(data.train_dataloader())) == 2
    assert calls == [16], "compared once, however often a loader is asked for"


def test_positives_are_not_forced_together(
    pictures: Path, modalities: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pictures 0 and 1, 2 and 3, ... of one text: positives of each other by content.
    lines = pictures.read_text().splitlines()
    couples = [f"{place}.png,picture {place // 2},class" for place in range(40)]
    pictures.write_text("\n".join([lines[0], *couples]) + "\n")
    monkeypatch.setattr(modalities["image"], "neighbours", by_brightness, raising=False)
    data = prepared(pictures, modalities, hard_negatives="image")
    data.train_dataloader()
    table = data._train.neighbours.table  # type: ignore[union-attr]
    assert table.shape == (40, 16)
    assert not (table == np.arange(40)[:, None] ^ 1).any()
    assert table[4].tolist()[:6] == [3, -1, 2, 6, 1, 7]
    single = prepared(pictures, modalities, hard_negatives="image", positives="record")
    single.train_dataloader()
    assert single._train.neighbours.table[4].tolist()[:4] == [3, 5, 2, 6]  # type: ignore[union-attr]


def test_rows_without_the_tower_have_no_neighbours(
    pictures: Path, modalities: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmalign.data.batching.hard_negatives import nearest_rows

    pictures.write_text(pictures.read_text().replace("\n3.png,", "\n,"))
    data = prepared(pictures, modalities, max_rejected=0.1).data
    monkeypatch.setattr(modalities["image"], "neighbours", by_brightness, raising=False)
    four = np.array([2, 3, 4, 5])
    few = Split("few", tuple(four.tolist()), tuple(data.records[index] for index in four), data.towers, data.store)
    table = nearest_rows(few, "image", np.arange(40), 2)
    assert table.tolist() == [[2, 3], [-1, -1], [3, 0], [2, 0]]


def test_a_modality_without_neighbours_is_an_error(pictures: Path, modalities: dict[str, Modality]) -> None:
    with pytest.raises(UserError, match="'image' does not support HardNegatives"):
        prepared(pictures, modalities, hard_negatives="image").train_dataloader()
    with pytest.raises(UserError, match="no tower 'picture'"):
        prepared(pictures, modalities, hard_negatives="picture").train_dataloader()
    for wrong in ({"hard_negative_fraction": 0.0}, {"hard_negative_fraction": 1.5}, {"hard_negative_group_size": 1}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            DataConfig(**wrong)  # type: ignore[arg-type]
