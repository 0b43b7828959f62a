import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign import DataConfig, Dataset, TowerConfig
from mmalign.data.streaming.stream_batches import StreamBatches
from mmalign.data.streaming.stream_numbers import StreamNumbers
from mmalign.data.streaming.training_stream import TrainingStream
from mmalign.errors import UserError
from mmalign.modality import Modality
from mmalign.model import fit_transforms
from mmalign.types import Batch
from tests.data.streaming.conftest import COLUMNS


def streamed(
    manifest: str, modalities: dict[str, Modality], log: Path | None = None, **settings: Any
) -> tuple[Dataset, StreamBatches]:
    defaults: dict[str, Any] = {
        "columns": COLUMNS,
        "validation": 0,
        "batch_size": 4,
        "stream_head": 8,
        "stream_buffer": 6,
    }
    data = Dataset.open(DataConfig("webdataset", manifest, stream=True, **(defaults | settings)), modalities)
    towers = {
        "image": TowerConfig(
            encoder="convnet", args={"width": 4}, transform={"size": 8, "random_crop": 0.5, "jitter": 0.5}
        ),
        "text": TowerConfig(args={"width": 8, "depth": 1, "heads": 2}),
    }
    transforms = fit_transforms(towers, {name: data.split("train").samples(name) for name in towers})
    return data, TrainingStream(data, transforms, {}, log).batches(data.config.batch_size)


def equal(one: Batch, other: Batch) -> bool:
    same = torch.equal(one.ids, other.ids) and torch.equal(one.groups, other.groups)
    return same and all(torch.equal(one.inputs[t][k], other.inputs[t][k]) for t in one.inputs for k in one.inputs[t])


@pytest.mark.parametrize("workers", [0, 3])
def test_batch_does_not_depend_on_where_reading_began(
    shards: Callable[..., str], modalities: dict[str, Modality], tmp_path: Path, workers: int
) -> None:
    manifest, log = shards(8, 6, damaged=(3, 17, 30, 31)), tmp_path / "rejected.jsonl"
    settings = {"workers": workers, "max_rejected": 1, "stream_head": 4}
    _, whole = streamed(manifest, modalities, log, **settings)
    batches = [whole[2, number] for number in range(9)]
    assert len({json.loads(line)["location"] for line in log.read_text().splitlines()}) >= 2
    for number in (4, 8):
        _, resumed = streamed(manifest, modalities, log, **settings)
        again = [resumed[2, later] for later in range(number, 9)]
        assert all(equal(one, other) for one, other in zip(batches[number:], again, strict=True))
    assert not equal(batches[0], whole[3, 0])


def test_epoch_reads_every_good_training_record_once(
    shards: Callable[..., str], modalities: dict[str, Modality], tmp_path: Path
) -> None:
    manifest, log = shards(10, 8, damaged=(5,)), tmp_path / "rejected.jsonl"
    listed = Dataset.open(
        DataConfig("webdataset", manifest, columns=COLUMNS, validation=0.2, max_rejected=1), modalities, accept_all=True
    )
    data, batches = streamed(manifest, modalities, log, validation=0.2, max_rejected=1, batch_size=1, stream_buffer=20)
    texts = set()
    for number in range(len(listed.split("train"))):
        batch = batches[0, number]
        assert isinstance(batch, Batch)
        texts.add(int(batch.ids))
    from mmalign.data.streaming.positives import hashed

    # A file is split by its name there, by the id of its record here: the splits differ, the sizes hardly.
    held = {hashed(f"id {record.id}") for record in data.split("validation").records}
    assert not texts & held
    assert len(texts) > 50


def test_groups_are_not_divided_between_stream_and_validation(
    tmp_path: Path, png: Callable[..., bytes], modalities: dict[str, Modality]
) -> None:
    from tests.data.streaming.conftest import write_tar

    members = {}
    for number in range(60):
        members |= {
            f"{number:02}.png": png(number),
            f"{number:02}.txt": b"picture %d" % number,
            f"{number:02}.json": json.dumps({"group": number % 20}).encode(),
        }
    write_tar(tmp_path / "s.tar", members)
    data, batches = streamed(
        str(tmp_path / "s.tar"), modalities, validation=0.3, stream_head=60, positives="group", batch_size=1
    )
    held = data.split("validation").records
    assert held
    from mmalign.data.streaming.positives import hashed

    seen = {int(batches[0, number].groups) for number in range(60 - len(held))}  # type: ignore[union-attr]
    assert seen == {hashed(f"group {number}") for number in range(20)} - {hashed(f"group {r.group}") for r in held}


def test_too_many_rejected_records_end_the_stream(
    shards: Callable[..., str], modalities: dict[str, Modality], tmp_path: Path
) -> None:
    manifest, log = shards(8, 6, damaged=tuple(range(20, 48))), tmp_path / "rejected.jsonl"
    _, batches = streamed(manifest, modalities, log, max_rejected=0.01, stream_head=1)
    error = next(found for found in (batches[0, number] for number in range(20)) if not isinstance(found, Batch))
    assert isinstance(error, UserError)
    assert "11 of the last" in str(error)
    assert "more than --data.max_rejected 0.01 of 1000" in str(error)
    assert "rejected.jsonl" in str(error)


def test_lost_shards_end_the_stream_beyond_the_limit(
    shards: Callable[..., str], modalities: dict[str, Modality], tmp_path: Path
) -> None:
    manifest = shards(10, 4)
    _, batches = streamed(manifest, modalities, tmp_path / "r.jsonl", max_rejected=0.15, stream_head=4)
    (tmp_path / "shards" / "s-002.tar").unlink()
    found = [batches[0, number] for number in range(9)]
    assert all(isinstance(batch, Batch) for batch in found)
    (tmp_path / "shards" / "s-003.tar").write_bytes(b"no tar at all" * 100)
    ends = [found for found in (batches[1, number] for number in range(12)) if not isinstance(found, Batch)]
    assert "2 of 10 shards cannot be read, more than --data.max_rejected 0.15" in str(ends[0])


def test_records_without_a_tower_are_left_out(
    tmp_path: Path, png: Callable[..., bytes], modalities: dict[str, Modality]
) -> None:
    from tests.data.streaming.conftest import write_tar

    write_tar(tmp_path / "s.tar", {"a.png": png(1), "a.txt": b"a", "b.txt": b"b", "c.png": png(3), "c.txt": b"c"})
    _, batches = streamed(str(tmp_path / "s.tar"), modalities, batch_size=2)
    assert [len(batches[0, number].ids.unique()) for number in range(3)] == [2, 2, 2]  # type: ignore[union-attr]
    assert len(torch.cat([batches[1, number].ids for number in range(3)]).unique()) == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [3, 4])
def test_numbers_of_an_epoch(size: int) -> None:
    numbers = StreamNumbers(10, size)
    assert list(numbers) == [(0, n) for n in range(10 // size)]
    numbers.resume(2, 4)
    assert list(numbers) == [(2, n) for n in range(-(-4 // size), 10 // size)]
    assert list(numbers) == [(2, n) for n in range(10 // size)]
    assert numbers.row_after(2) == 2 * size
    assert numbers.counted(2 * size) == 2


def test_epoch_of_an_address_must_be_stated(shards: Callable[..., str], modalities: dict[str, Modality]) -> None:
    with pytest.raises(UserError, match=r"--data\.stream_epoch: expected a number of records"):
        streamed("file://" + shards(), modalities)
    streamed("file://" + shards(folder="more"), modalities, stream_epoch=30)


def test_hard_negatives_are_refused() -> None:
    with pytest.raises(UserError, match="--data.stream: expected no hard negatives, which need all records, got text"):
        DataConfig(stream=True, hard_negatives="text")


def test_stream_without_readable_shard(tmp_path: Path, modalities: dict[str, Modality]) -> None:
    (tmp_path / "a.tar").write_bytes(b"\1" * 2000)
    with pytest.raises(UserError, match=r"expected records, got none of 1 shards, the first fault: a\.tar: expected a"):
        streamed(str(tmp_path / "a.tar"), modalities)
