from collections.abc import Iterable

import numpy as np
import pytest

from mmalign import distributed
from mmalign.data.sampling import NO_EPOCH, EpochBatches


def batches(sampler: EpochBatches) -> list[list[int]]:
    return [places.tolist() for _, places in sampler]


def flat(parts: Iterable[list[int]]) -> list[int]:
    return [place for part in parts for place in part]


def on_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world_size", lambda: world)


def test_each_epoch_has_its_own_order_of_all_places() -> None:
    sampler = EpochBatches(np.arange(10, 33), 5, shuffle=True, seed=1)
    first = batches(sampler)
    assert [len(batch) for batch in first] == [5, 5, 5, 5, 3]
    assert sorted(flat(first)) == list(range(10, 33))
    assert batches(sampler) == first
    sampler.set_epoch(1)
    assert sorted(flat(batches(sampler))) == list(range(10, 33))
    assert batches(sampler) != first
    assert batches(EpochBatches(np.arange(10, 33), 5, shuffle=True, seed=2)) != first


def test_without_shuffling_nothing_is_drawn() -> None:
    sampler = EpochBatches(np.arange(7), 3, shuffle=False)
    sampler.set_epoch(4)
    assert [(epoch, places.tolist()) for epoch, places in sampler] == [
        (NO_EPOCH, [0, 1, 2]), (NO_EPOCH, [3, 4, 5]), (NO_EPOCH, [6]),
    ]  # fmt: skip


def test_drop_last() -> None:
    assert len(EpochBatches(np.arange(23), 5, shuffle=True, drop_last=True)) == 4
    assert len(EpochBatches(np.arange(20), 5, shuffle=True, drop_last=True)) == 4
    assert len(EpochBatches(np.arange(4), 5, shuffle=True, drop_last=True)) == 0


def test_resuming_continues_the_same_pass() -> None:
    sampler = EpochBatches(np.arange(40), 8, shuffle=True, seed=5)
    sampler.set_epoch(3)
    whole = batches(sampler)
    fresh = EpochBatches(np.arange(40), 8, shuffle=True, seed=5)
    fresh.resume(3, 2)
    fresh.set_epoch(3)  # as Lightning does before the pass
    assert len(fresh) == 5
    assert batches(fresh) == whole[2:]
    assert batches(fresh) == whole  # only the next pass was resumed
    fresh.resume(3, 2)
    fresh.set_epoch(4)
    assert len(batches(fresh)) == 5


def test_an_iterator_that_is_never_used_takes_nothing() -> None:
    # A loader with workers makes two and uses the second.
    sampler = EpochBatches(np.arange(40), 8, shuffle=True)
    sampler.resume(0, 3)
    unused = iter(sampler)
    assert len(list(iter(sampler))) == 2
    del unused


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [24, 25, 26, 30, 31, 47])
@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_share_what_one_process_would_take(
    monkeypatch: pytest.MonkeyPatch, world: int, count: int, drop_last: bool
) -> None:
    parts = []
    for rank in range(world):
        on_rank(monkeypatch, rank, world)
        sampler = EpochBatches(np.arange(count), 4, shuffle=True, drop_last=drop_last, seed=2)
        parts.append(batches(sampler))
        assert len(sampler) == len(parts[-1])
    on_rank(monkeypatch, 0, 1)
    alone = batches(EpochBatches(np.arange(count), 4 * world, shuffle=True, drop_last=drop_last, seed=2))
    together = [flat(step) for step in zip(*parts, strict=True)]
    assert flat(together) == flat(alone)
    assert together[:-1] == alone[: len(together) - 1]
    for step in zip(*parts, strict=True):
        sizes = [len(part) for part in step]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


def test_order_and_augmentation_draw_from_different_streams() -> None:
    # SeedSequence pads with zeros: three equal numbers and a zero would be one stream.
    order = np.random.default_rng((3, 1, 0, 1)).random(4)
    assert not np.array_equal(order, np.random.default_rng((3, 1, 0)).random(4))
    assert np.array_equal(np.random.default_rng((3, 1)).random(4), np.random.default_rng((3, 1, 0)).random(4))
