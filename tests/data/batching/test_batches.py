from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign.data.batching.batches import positive_groups
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.errors import UserError
from mmalign.modality import Modality, Transform
from mmalign.training.data_module import TrainingData
from mmalign.types import Inputs


def record(number: int, group: str | None = None, **values: Any) -> Record:
    return Record(str(number), f"n:{number}", {side: tuple(found) for side, found in values.items()}, group=group)


def together(groups: np.ndarray[Any, Any]) -> list[set[int]]:
    return [set(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)]


def test_content_joins_equal_sentences_files_and_values() -> None:
    records = [
        record(0, image=["a.png"], text=["one", "shared"]),
        record(1, image=["b.png"], text=["shared", "bridge"]),
        record(2, image=["c.png"], text=["bridge"]),
        record(3, image=["d.png"], text=["a.png"]),  # equal strings of different sides mean nothing
        record(4, image=["e.png"], text=["four"]),
        record(5, image=["e.png"], text=["five"]),
        record(6, image=[b"raw"], text=["six"]),
        record(7, image=[b"raw"], text=["seven"]),
        record(8, image=[np.arange(3.0)], text=["eight"]),
        record(9, image=[np.arange(3.0)], text=["nine"]),
        record(10, image=[np.arange(3.0)[None]], text=["Shared"]),  # another shape; another sentence
    ]
    assert together(positive_groups(records, "content")) == [{0, 1, 2}, {3}, {4, 5}, {6, 7}, {8, 9}, {10}]
    assert together(positive_groups(records, "record")) == [{n} for n in range(11)]


def test_content_groups_equal_a_search_of_connected_rows() -> None:
    rng = np.random.default_rng(0)
    captions = [rng.integers(0, 60, size=2).tolist() for _ in range(50)]
    near = np.array([[bool(set(a) & set(b)) for a in captions] for b in captions])
    reach = np.linalg.matrix_power(near.astype(float), 50) > 0
    found = positive_groups([record(n, text=[str(c) for c in pair]) for n, pair in enumerate(captions)], "content")
    np.testing.assert_array_equal(found[:, None] == found[None], reach)


def test_groups_by_column() -> None:
    records = [record(0, "p"), record(1, None), record(2, "p"), record(3, "q"), record(4, None)]
    assert together(positive_groups(records, "group")) == [{0, 2}, {1}, {3}, {4}]
    with pytest.raises(UserError, match=r"--data\.columns\.group"):
        positive_groups([record(0)], "group")


class Noisy(Transform):
    """Shows what was drawn: the sample's first value and a random number."""

    def fit(self, samples: Iterable[Any]) -> None:
        self.seen = list(samples)

    def __call__(self, sample: Any, rng: np.random.Generator | None = None) -> Any:
        first = float(sample.flat[0]) if isinstance(sample, np.ndarray) else float(sample.split()[-1])
        return [first, 0.0 if rng is None else float(rng.random())]

    def collate(self, items: Sequence[Any]) -> Inputs:
        return {"x": torch.tensor(items, dtype=torch.float64)}

    def config(self) -> dict[str, Any]:
        return {}


def opened(path: Path, modalities: dict[str, Modality], **settings: Any) -> TrainingData:
    given = {"columns": {"image": "file", "text": "text"}, "batch_size": 8} | settings
    data = Dataset.open(DataConfig(manifest=str(path), **given), modalities)
    return TrainingData(data, {"image": Noisy(), "text": Noisy()})


def by_id(data: TrainingData, epoch: int) -> dict[int, list[float]]:
    data.set_epoch(epoch)
    found = {}
    for batch in data.train_dataloader():
        for row, place in enumerate(batch.ids.tolist()):
            found[place] = batch.inputs["image"]["x"][row].tolist() + batch.inputs["text"]["x"][row].tolist()
    return found


def test_pairs_stay_pairs(pictures: Path, modalities: dict[str, Modality]) -> None:
    data = opened(pictures, modalities, drop_last=False)
    found = by_id(data, 0)
    assert len(found) == len(data.data.split("train").records)
    for place, (pixel, _, number, _) in found.items():
        assert (pixel, number) == (place * 6, place)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than a small machine has cores
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_randomness_depends_on_seed_epoch_and_sample_only(
    pictures: Path, modalities: dict[str, Modality], workers: int
) -> None:
    data = opened(pictures, modalities, drop_last=False, workers=workers, seed=7)
    other = opened(pictures, modalities, drop_last=False, batch_size=3, seed=7)
    loader = data.train_dataloader()
    first: dict[int, list[float]] = {}
    for epoch in (0, 1):
        data.set_epoch(epoch)
        found = {}
        for batch in loader:
            for row, place in enumerate(batch.ids.tolist()):
                found[place] = batch.inputs["image"]["x"][row].tolist() + batch.inputs["text"]["x"][row].tolist()
                rng = np.random.default_rng((7, epoch, place))
                assert [found[place][1], found[place][3]] == [rng.random(), rng.random()]
        other.set_epoch(epoch)
        alone = by_id(other, epoch) if epoch == 0 else found
        assert found == alone
        assert found != first
        first = found


def test_captions_are_drawn_evenly_and_anew_each_epoch(
    tmp_path: Path, modalities: dict[str, Modality], png: Any
) -> None:
    lines = ["file,text"]
    for number in range(60):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        lines.append(f"{number}.png,{number} 0|{number} 1|{number} 2")
    path = tmp_path / "n.csv"
    path.write_text("\n".join(lines))
    data = opened(path, modalities, separator="|", drop_last=False, validation=0)
    draws = np.array([[row[2] for _, row in sorted(by_id(data, epoch).items())] for epoch in range(30)])
    counts = np.bincount(draws.astype(int).ravel(), minlength=3)
    assert counts.sum() == 1800
    np.testing.assert_allclose(counts, 600, atol=80)  # four standard deviations of a fair draw
    assert len({tuple(row) for row in draws}) == 30
    held = opened(path, modalities, separator="|", validation=0.3)
    assert all((batch.inputs["text"]["x"] == 0).all() for batch in held.val_dataloader())


def test_several_captions_of_an_image_are_drawn(tmp_path: Path, modalities: dict[str, Modality], png: Any) -> None:
    lines = ["file,text"]
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        captions = [f"{number} {100 * number + one}" for one in range(1 + number % 5)]
        lines.append(f"{number}.png,{'|'.join(captions)}")
    path = tmp_path / "n.csv"
    path.write_text("\n".join(lines))
    settings: dict[str, Any] = {"separator": "|", "drop_last": False, "validation": 0, "positives": "record"}

    def captions_of(draw: dict[str, int] | None, epoch: int) -> dict[int, list[float]]:
        data = opened(path, modalities, draw=draw, **settings)
        found: dict[int, list[float]] = {}
        loader = data.train_dataloader()
        data.set_epoch(epoch)
        for batch in loader:
            owner = batch.owner["text"] if draw and draw["text"] != 1 else torch.arange(len(batch))
            assert len(owner) == len(batch.inputs["text"]["x"])
            assert owner.diff().ge(0).all()
            for row, place in enumerate(batch.ids.tolist()):
                found[place] = batch.inputs["text"]["x"][owner == row, 0].tolist()
        return found

    drawn = [captions_of({"text": 3}, epoch) for epoch in range(40)]
    assert {place: len(found) for place, found in drawn[0].items()} == {n: min(3, 1 + n % 5) for n in range(12)}
    assert all(found == sorted(set(found)) for each in drawn for found in each.values())
    assert len({tuple(each[4]) for each in drawn}) == 10  # every choice of 3 out of 5
    assert captions_of({"text": 0}, 0) == {n: [100.0 * n + one for one in range(1 + n % 5)] for n in range(12)}
    assert captions_of({"text": 1}, 3) == captions_of(None, 3)
    with pytest.raises(UserError, match=r"--data\.draw\.text: expected a number of items, 0 = all, got -1"):
        DataConfig("digits", draw={"text": -1})
    (held, *_) = opened(path, modalities, draw={"text": 2}, **settings | {"validation": 0.5}).val_dataloader()
    assert held.inputs["text"]["x"][held.owner["text"] == 1, 0].diff().tolist() in ([1.0], [])  # the first two


def views_of(data: TrainingData, epoch: int) -> dict[int, tuple[list[float], list[float]]]:
    """Record -> [caption, random number] of its first and of its second view."""
    loader = data.train_dataloader()
    data.set_epoch(epoch)
    found = {}
    for batch in loader:
        assert batch.again.keys() == {"text"}
        both = (batch.inputs["text"]["x"], batch.again["text"]["x"])  # type: ignore[call-overload]
        for row, place in enumerate(batch.ids.tolist()):
            found[place] = (both[0][row].tolist(), both[1][row].tolist())
    return found


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_second_views_have_their_own_random_numbers_and_leave_the_first_as_they_were(
    tmp_path: Path, modalities: dict[str, Modality], png: Any
) -> None:
    lines = ["file,text"]
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        lines.append(f"{number}.png,{'|'.join(f'{number} {one}' for one in range(1 + number % 3))}")
    path = tmp_path / "n.csv"
    path.write_text("\n".join(lines))
    settings: dict[str, Any] = {"separator": "|", "drop_last": False, "validation": 0.25, "positives": "record"}
    plain = by_id(opened(path, modalities, **settings), 0)
    for how in ("augmentation", "alternative"):
        views = views_of(opened(path, modalities, views={"text": how}, **settings), 0)
        threaded = views_of(opened(path, modalities, views={"text": how}, workers=2, batch_size=5, **settings), 0)
        assert views == threaded
        for place, (first, second) in views.items():
            assert first == plain[place][2:]
            assert first[1] != second[1]
            several = place % 3 > 0
            assert (first[0] != second[0]) == (several and how == "alternative")
    data = opened(path, modalities, views={"text": "augmentation"}, **settings)
    first, second = ([batch.again["text"]["x"].tolist() for batch in data.val_dataloader()] for _ in range(2))
    assert first == second
    assert all(row[1] > 0 for batch in first for row in batch)  # augmented, beside a first view that is not
    with pytest.raises(UserError, match=r"--data\.views\.text: expected augmentation or alternative, got crop"):
        DataConfig("digits", views={"text": "crop"})


def test_rows_that_lack_a_tower(tmp_path: Path, png: Any) -> None:
    from mmalign import registry

    (tmp_path / "a.png").write_bytes(png(6))
    lines = ["file,text,more", "a.png,n 1,n 2", ",n 3,n 4", "a.png,,n 5", "a.png,n 6,", ",,n 7"]
    (tmp_path / "n.csv").write_text("\n".join(lines))
    three = {s: registry.load("modalities", "image" if s == "image" else "text") for s in ("image", "text", "more")}
    config = DataConfig(
        manifest=str(tmp_path / "n.csv"), columns={"image": "file", "text": "text", "more": "more"},
        validation=0, batch_size=4, max_rejected=0, positives="record",
    )  # fmt: skip
    data = TrainingData(Dataset.open(config, three), {side: Noisy() for side in three})
    assert ([row.location for row in data.data.incomplete], data.data.rejected) == (["n.csv:6"], [])
    (batch,) = data.train_dataloader()
    for side, lacking in {"image": 1, "text": 2, "more": 3}.items():
        expected = [row for row, place in enumerate(batch.ids.tolist()) if place != lacking]
        assert batch.sample_indices[side].tolist() == expected
        assert len(batch.inputs[side]["x"]) == 3
    places = batch.ids[batch.sample_indices["more"]].tolist()
    numbers = dict(zip(places, batch.inputs["more"]["x"][:, 0].tolist(), strict=True))
    assert numbers == {0: 2.0, 1: 4.0, 2: 5.0}
    items = [
        (inputs["x"][:, 0].tolist(), rows.tolist())
        for inputs, rows in data.data.split("all").batches("text", data.transforms["text"], batch_size=2)
    ]
    assert items == [([1.0, 3.0], [0, 1]), ([6.0], [3])]
