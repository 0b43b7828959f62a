import dataclasses
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from mmalign.data.caching.memory_size import nbytes
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.errors import BadSample, UserError
from mmalign.modality import Modality, Transform
from mmalign.model import TowerConfig, fit_transforms, modality_of
from mmalign.training.data_module import TrainingData
from mmalign.types import Batch

COLUMNS = {"image": "file", "text": "text"}


def prepared(path: Path, modalities: dict[str, Modality], out: Path | None = None, **settings: Any) -> TrainingData:
    given = {"columns": COLUMNS, "batch_size": 8, "validation": 0.25} | settings
    data = Dataset.open(DataConfig(manifest=str(path), **given), modalities, out=out)
    transforms: dict[str, Transform] = {
        "image": modalities["image"].transform("convnet", {}, size=8),
        "text": modalities["text"].transform("transformer", {}),
    }
    if "text" in data.towers:
        transforms["text"].fit(data.split("train").samples("text"))
    return TrainingData(data, transforms)


def same(a: Batch, b: Batch) -> bool:
    values = [(a.ids, b.ids), (a.groups, b.groups)]
    for side in a.inputs:
        values += [(a.inputs[side][key], b.inputs[side][key]) for key in a.inputs[side]] + [
            (a.sample_indices[side], b.sample_indices[side])
        ]
    return all(torch.equal(one, other) for one, other in values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "--data.batch_size: expected at least 1, got 0"),
        ({"validation": 1.0}, "--data.validation"),
        ({"test": -0.1}, "--data.test"),
        ({"validation": 0.6, "test": 0.4}, "a sum below 1"),
        ({"positives": "class"}, "--data.positives: expected one of record, content, group, got class"),
        ({"workers": -1}, "--data.workers"),
        ({"cache_gb": -1}, "--data.cache_gb"),
        ({"max_rejected": 2}, "--data.max_rejected"),
        ({"seed": -1}, "--data.seed"),
    ],
)
def test_values_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        DataConfig(**settings)


def test_splits_and_loaders(pictures: Path, modalities: dict[str, Modality]) -> None:
    data = prepared(pictures, modalities)
    train, held = data.data.split("train").records, data.data.split("validation").records
    assert len(train) + len(held) == 40 == len(data.data.split("all").records)
    assert data.data.split("test").records == ()
    assert {record.id for record in train}.isdisjoint(record.id for record in held)
    loader = data.train_dataloader()
    assert len(loader) == len(train) // 8 == len(list(loader))
    assert sum(len(batch) for batch in data.val_dataloader()) == len(held)
    assert prepared(pictures, modalities, validation=0).val_dataloader() == []
    with pytest.raises(UserError, match="did you mean 'validation'"):
        data.data.split("validations")


def test_items_are_every_alternative_in_order(pictures: Path, modalities: dict[str, Modality]) -> None:
    pictures.write_text(pictures.read_text().replace("picture 3,", "picture 3|a second,"))
    data = prepared(pictures, modalities, separator="|")
    rows = [
        row
        for _, places in data.data.split("all").batches("text", data.transforms["text"], batch_size=7)
        for row in places.tolist()
    ]
    assert rows == sorted([*range(40), 3])
    once = [inputs["pixels"] for inputs, _ in data.data.split("validation").batches("image", data.transforms["image"])]
    again = [inputs["pixels"] for inputs, _ in data.data.split("validation").batches("image", data.transforms["image"])]
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
    assert len(list(data.data.split("all").samples("text"))) == 41


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than a small machine has cores
@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_gives_the_same_batches(pictures: Path, modalities: dict[str, Modality], workers: int) -> None:
    data = prepared(pictures, modalities)
    data.train_dataloader()
    data.set_epoch(2)
    whole = list(data.train_dataloader())
    fresh = prepared(pictures, modalities, workers=workers)
    fresh.resume(2, fresh.rows_per_step)
    loader = fresh.train_dataloader()
    rest = list(loader)
    assert len(rest) == len(whole) - 1
    assert all(same(one, other) for one, other in zip(rest, whole[1:], strict=True))
    later = fresh.train_dataloader()
    assert len(list(later)) == len(whole)


def test_data_loaders_do_not_change_the_global_random_state(pictures: Path, modalities: dict[str, Modality]) -> None:
    data = prepared(pictures, modalities)
    before = torch.get_rng_state()
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bounded_cache_changes_nothing_but_speed(pictures: Path, modalities: dict[str, Modality]) -> None:
    cached, none, some = (prepared(pictures, modalities, cache_gb=size) for size in (1, 0, 3e-6))
    assert none.data.store.used_bytes == 0
    assert 0 < some.data.store.used_bytes <= 3000 < cached.data.store.used_bytes
    for batches in zip(*(data.train_dataloader() for data in (cached, none, some)), strict=True):
        assert same(batches[0], batches[1])
        assert same(batches[0], batches[2])
    for path in pictures.parent.glob("*.png"):
        path.unlink()
    assert len(list(cached.train_dataloader())) == len(cached.train_dataloader())
    with pytest.raises(BadSample, match=r"names\.csv:\d+ image \d+\.png.*no such file"):
        list(none.train_dataloader())


class Counting:
    """A transform that counts how often it featurises."""

    def __init__(self, inner: Transform) -> None:
        self.inner, self.made = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def featurise(self, sample: Any) -> Any:
        self.made += 1
        return self.inner.item(sample).copy()

    def __call__(self, features: Any, rng: Any = None) -> Any:
        return features


@pytest.mark.parametrize(("cache_gb", "epochs_made"), [(1, 1), (0, 2)])
def test_features_are_computed_once_within_the_cache(
    pictures: Path, modalities: dict[str, Modality], cache_gb: float, epochs_made: int
) -> None:
    data = prepared(pictures, modalities, cache_gb=cache_gb)
    counting = Counting(modalities["image"].transform("convnet", {}, size=8))
    data = TrainingData(data.data, {**data.transforms, "image": counting})  # type: ignore[dict-item]
    rows = sum(len(batch) for batch in data.train_dataloader())
    for _ in data.train_dataloader():
        pass
    assert counting.made == rows * epochs_made
    again = Counting(counting.inner)  # another transform never gets the features of the first
    used = data.data.store.used_bytes
    data = TrainingData(data.data, {**data.transforms, "image": again})  # type: ignore[dict-item]
    assert sum(len(batch) for batch in data.train_dataloader()) == again.made == rows
    assert data.data.store.used_bytes == used


@pytest.mark.parametrize("random_crop", [1.0, 0.5])
def test_features_replace_samples_while_the_data_are_read(
    pictures: Path, modalities: dict[str, Modality], random_crop: float
) -> None:
    """In memory are the pictures at the size at which they are used; batches are those of decoded samples."""
    transform = modalities["image"].transform("convnet", {}, size=8, random_crop=random_crop, random_aspect=1.0)
    after = prepared(pictures, modalities)
    config = after.data.config
    early = Dataset.open(config, modalities, transforms={"image": transform}, training=True)
    store = early.store
    assert not [key for key in store._cache if key[1] == "image"]
    assert {training for _, _, training in store._features["image"][1]} == {False, random_crop < 1}
    each = {key: nbytes(value) for key, value in store._features["image"][1].items()}
    needed = 8 if random_crop == 1 else 12  # pixels, for crops of half the area
    assert max(each.values()) <= 3 * needed**2 + 100
    used = store.used_bytes
    loaders = [TrainingData(data, {**after.transforms, "image": transform}) for data in (early, after.data)]
    for name in ("train_dataloader", "val_dataloader"):
        for one, other in zip(*(getattr(loader, name)() for loader in loaders), strict=True):
            assert same(one, other)
    assert store.used_bytes == used


@pytest.mark.parametrize("keep", [True, False])
def test_a_task_that_reads_samples_again_keeps_them(
    pictures: Path, modalities: dict[str, Modality], keep: bool
) -> None:
    store = prepared(pictures, modalities).data.store
    store.keep_samples = keep
    transform = modalities["image"].transform("convnet", {}, size=4)
    for index in range(5):
        store.item(index, "image", transform)
        assert ((index, "image", 0) in store._cache) == keep


def test_a_fault_of_the_transform_is_raised_where_the_features_are_needed(
    pictures: Path, modalities: dict[str, Modality]
) -> None:
    transform = modalities["image"].transform("convnet", {}, size=8)

    def refused(sample: Any) -> Any:
        raise BadSample("a picture", "a square one", "this one")

    transform.featurise = refused  # type: ignore[method-assign]
    data = Dataset.open(
        DataConfig(manifest=str(pictures), columns=COLUMNS), modalities, transforms={"image": transform}
    )
    assert not data.rejected
    with pytest.raises(BadSample, match=r"names\.csv:2 image 0\.png: expected a square one, got this one"):
        list(data.split("all").batches("image", transform))


def test_a_spawned_worker_opens_its_own_file(pictures: Path, modalities: dict[str, Modality]) -> None:
    data = prepared(pictures, modalities)
    copy = pickle.loads(pickle.dumps(data.train_dataloader().dataset))
    key = next(iter(data.train_dataloader().sampler))
    assert copy.samples.used_bytes == 0 < data.data.store.used_bytes
    none = prepared(pictures, modalities, cache_gb=0)
    sizes = [len(pickle.dumps(one.train_dataloader().dataset)) for one in (data, none)]
    assert sizes[0] == pytest.approx(sizes[1], abs=100)  # the cache stays behind
    assert same(copy[key], data.train_dataloader().dataset[key])


def test_bad_rows_are_rejected_and_listed(
    pictures: Path, modalities: dict[str, Modality], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "5.png").write_text("not a picture")
    (tmp_path / "9.png").unlink()
    out = tmp_path / "out"
    out.mkdir()
    with caplog.at_level(logging.WARNING, "mmalign"):
        data = prepared(pictures, modalities, out, max_rejected=0.05).data  # exactly at the limit
    assert "2 of 40 rows rejected" in caplog.text
    lines = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [(line["location"], line["tower"], line["file"]) for line in lines] == [
        ("names.csv:7", "image", "5.png"), ("names.csv:11", "image", "9.png"),
    ]  # fmt: skip
    assert "no such file" in lines[1]["reason"]
    good = {record.id for record in data.split("all").records}
    assert good == {str(number) for number in range(1, 41)} - {"6", "10"}
    assert [str(rejected.location) for rejected in data.rejected] == ["names.csv:7", "names.csv:11"]
    (tmp_path / "whole").mkdir()
    whole = [r for r, s in zip(data.records, data.splits, strict=True) if s == "train"]
    assert {r.id for r in data.split("train").records} == {r.id for r in whole} - {"6", "10"}
    assert data.read("all") is data
    assert caplog.text.count("rows rejected") == 1


def test_the_limit_is_of_the_whole_table_and_counted_once(
    pictures: Path, modalities: dict[str, Modality], tmp_path: Path
) -> None:
    """What a training accepts, the evaluation of any of its splits accepts too."""
    config = DataConfig(manifest=str(pictures), columns=COLUMNS, validation=0.25, max_rejected=0.05)
    data = Dataset.open(config, modalities, splits=[])
    held = [record for record, split in zip(data.records, data.splits, strict=True) if split == "validation"]
    for record in held[:2]:  # 2 of 40 rows, and far more than 5 % of the validation rows
        (tmp_path / record.values["image"][0]).write_text("not a picture")
    for splits in (None, ["validation"], ["train"]):
        data = Dataset.open(config, modalities, splits=splits)
    assert (len(data.rejected), len(data.read("validation").rejected)) == (0, 2)
    (tmp_path / held[2].values["image"][0]).write_text("not a picture")
    with pytest.raises(UserError, match="3 of 40 rows cannot be used, more than --data.max_rejected 0.05"):
        Dataset.open(config, modalities, splits=["validation"])


def test_rows_without_a_required_tower_are_excluded_and_counted(
    pictures: Path, modalities: dict[str, Modality], caplog: pytest.LogCaptureFixture
) -> None:
    rows = pictures.read_text().splitlines()
    lines = [",".join([cells[0], "" if n % 2 else cells[1], *cells[2:]]) for n, cells in
             enumerate(row.split(",") for row in rows)]  # fmt: skip
    pictures.write_text("\n".join([rows[0], *lines[1:]]))
    config = DataConfig(manifest=str(pictures), columns=COLUMNS, validation=0.25, max_rejected=0)
    with caplog.at_level(logging.WARNING, "mmalign"):
        data = Dataset.open(config, modalities)
    assert (len(data.incomplete), data.rejected, len(data.split("all").records)) == (20, [], 20)
    assert "20 of 40 rows lack a tower and are left out; the first: names.csv:2 text" in caplog.text
    alone = Dataset.open(config, {"image": modalities["image"]})
    assert (alone.incomplete, len(alone.split("all").records)) == ([], 40)


def test_too_many_bad_rows_stop(pictures: Path, modalities: dict[str, Modality], tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        (tmp_path / f"{number}.png").unlink()
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError) as error:
        prepared(pictures, modalities, out, max_rejected=0.099)
    message = str(error.value)
    assert message.startswith("4 of 40 rows cannot be used, more than --data.max_rejected 0.099")
    assert "names.csv:3 image 1.png: expected a file" in message
    assert "\n" not in message
    assert len((out / "rejected.jsonl").read_text().splitlines()) == 4


def test_a_decoder_that_breaks_is_a_bad_row(
    pictures: Path, modalities: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = modalities["image"]
    read = type(image).read

    def fragile(self: Modality, source: Any) -> Any:
        if Path(source).name == "3.png":
            raise ZeroDivisionError("at\nthe header")
        return read(self, source)

    monkeypatch.setattr(type(image), "read", fragile)
    data = prepared(pictures, modalities, max_rejected=0.1).data
    (rejected,) = data.rejected
    assert rejected.reason == "expected a readable sample, got ZeroDivisionError: at the header"


def test_errors_of_a_transform_name_the_row(tmp_path: Path) -> None:
    """The width is learnt from the training rows: a held-out vector of another one must say which row it is."""
    rows = [{"vec": [1.0, float(n)], "other": [0.0, float(n)], "split": "train"} for n in range(6)]
    rows.append({"vec": [1.0, 2.0, 3.0], "other": [0.0, 1.0], "split": "validation"})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    towers = {side: TowerConfig(modality="vector") for side in ("vec", "other")}
    sides = {side: modality_of(side, tower) for side, tower in towers.items()}
    config = DataConfig(manifest=str(tmp_path / "rows.jsonl"), columns={"vec": "vec", "other": "other"}, batch_size=2)
    read = Dataset.open(config, sides)
    data = TrainingData(read, fit_transforms(towers, {side: read.split("train").samples(side) for side in towers}))
    for loader in (data.val_dataloader(), read.split("validation").batches("vec", data.transforms["vec"])):
        with pytest.raises(BadSample, match=r"rows\.jsonl:7 vec: expected vectors of 2 numbers, got 3"):
            list(loader)


def test_only_wanted_splits_are_decoded(pictures: Path, modalities: dict[str, Modality]) -> None:
    config = DataConfig(manifest=str(pictures), columns=COLUMNS, validation=0.25)
    data = Dataset.open(config, modalities, splits=[])
    train = [r.values["image"][0] for r, s in zip(data.records, data.splits, strict=True) if s == "train"]
    (pictures.parent / train[0]).unlink()
    data = data.read("validation")
    assert data.rejected == []
    assert len(data.split("validation").records) + len(train) == 40
    with pytest.raises(UserError, match="split 'train': its samples have not been read"):
        data.split("train")
    with pytest.raises(UserError, match="1 of 40 rows"):
        data.read("train")


def test_each_sample_is_decoded_once(
    pictures: Path, modalities: dict[str, Modality], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, seen = modalities["image"], []
    read = type(image).read

    def counting(self: Modality, source: Any) -> Any:
        seen.append(source)
        return read(self, source)

    monkeypatch.setattr(type(image), "read", counting)
    config = DataConfig(manifest=str(pictures), columns=COLUMNS, validation=0.25)
    data = Dataset.open(config, modalities, splits=["validation"])
    assert len(seen) == len(data.split("validation").records) < 40
    data = data.read("validation").read("all")
    list(data.split("all").samples("image"))
    assert len(seen) == 40


def test_one_tower_and_labels_for_zero_shot(pictures: Path, modalities: dict[str, Modality]) -> None:
    for asked in (modalities, {"image": modalities["image"]}):
        config = DataConfig(manifest=str(pictures), columns={"image": "file", "label": "text"}, validation=0.25)
        assert config.towers == ["image"]
        data = Dataset.open(config, asked)
        records = data.split("validation").records
        assert records
        assert all(record.labels == (f"picture {int(record.id) - 1}",) for record in records)
        with pytest.raises(UserError, match=r"no tower 'text'.*--data\.columns\.text"):
            next(data.split("train").samples("text"))
        loaders = TrainingData(data, {"image": modalities["image"].transform("convnet", {}, size=8)})
        if len(asked) > 1:
            with pytest.raises(UserError, match="needs two towers"):
                loaders.train_dataloader()
        else:  # one tower trains with itself
            assert len(loaders.train_dataloader()) == 1


def test_extra_towers_are_ignored_and_misspelt_ones_are_errors(pictures: Path, modalities: dict[str, Modality]) -> None:
    data = Dataset.open(DataConfig(manifest=str(pictures), columns=COLUMNS), {"image": modalities["image"]})
    assert set(data.split("all").records[0].values) == {"image"}
    wrong = DataConfig(manifest=str(pictures), columns={"imge": "file", "text": "text"})
    with pytest.raises(UserError, match=r"--data\.columns\.imge: no such tower; did you mean 'image'"):
        Dataset.open(wrong, modalities)


def test_a_batch_larger_than_the_data_is_lowered(
    pictures: Path, modalities: dict[str, Modality], capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared(pictures, modalities, batch_size=64)
    rows = len(data.data.split("train"))
    assert [len(batch) for batch in data.train_dataloader()] == [rows]
    assert data.rows_per_step == rows < 64
    notice = f"{rows} training rows do not fill one step of 64: --data.batch_size is lowered to {rows}"
    assert notice in capsys.readouterr().out
    data = prepared(pictures, modalities, batch_size=64, drop_last=False)
    assert len(data.train_dataloader()) == 1


def test_fingerprint_ignores_folder_and_split(pictures: Path, modalities: dict[str, Modality]) -> None:
    one, other = prepared(pictures, modalities).data, prepared(pictures, modalities, split_seed=3).data
    assert one.fingerprint() == other.fingerprint()
    (pictures.parent / "5.png").write_bytes((pictures.parent / "6.png").read_bytes())
    assert prepared(pictures, modalities).data.fingerprint() != one.fingerprint()


class _Counts(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[int, list[list[int]]] = {}

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).append(batch.ids.tolist())
        return self.weight.sum()

    def validation_step(self, batch: Batch, index: int) -> None:
        self.seen.setdefault(-1, []).append(batch.ids.tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*across ranks is zero.*")
@pytest.mark.parametrize("validation", [0.25, 0.0])
def test_batches_follow_the_epoch_of_lightning(
    pictures: Path, modalities: dict[str, Modality], validation: float
) -> None:
    data, module = prepared(pictures, modalities, validation=validation), _Counts()
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert (-1 in module.seen) == (validation > 0)
    orders = [module.seen[epoch] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    data.resume(1, 0)
    assert [batch.ids.tolist() for batch in data.train_dataloader()] == orders[1]


def test_split_is_immutable_and_decoded_once(tmp_path: Path) -> None:
    """Nothing of a split changes, and asking for it twice decodes nothing again."""
    modalities = {side: modality_of(side, TowerConfig()) for side in ("image", "text")}
    data = Dataset.open(DataConfig(source="digits"), modalities, splits=["validation"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.records = ()  # type: ignore[misc]
    split = data.split("validation")
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.name = "train"  # type: ignore[misc]
    decoded = data.store.used_bytes
    again = data.split("validation")
    assert again == split
    assert data.store.used_bytes == decoded
    assert [record.id for record in split.records] == [data.records[index].id for index in split.indices]
