from collections.abc import Iterable

import numpy as np
import pytest

from mmalign import distributed
from mmalign.data.batching.sampling import NO_EPOCH, EpochBatches, Neighbours


def batches(sampler: EpochBatches) -> list[list[int]]:
    return [places.tolist() for _, places in sampler]


def flat(parts: Iterable[list[int]]) -> list[int]:
    return [place for part in parts for place in part]


def on_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world_size", lambda: world)


def test_each_epoch_has_its_own_order_of_all_rows() -> None:
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
    fresh.resume(3, 16)
    fresh.set_epoch(3)  # as Lightning does before the pass
    assert len(fresh) == 5
    assert batches(fresh) == whole[2:]
    assert batches(fresh) == whole  # only the next pass was resumed
    fresh.resume(3, 16)
    fresh.set_epoch(4)
    assert len(batches(fresh)) == 5


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 5, 7, 40])
@pytest.mark.parametrize("drop_last", [True, False])
def test_another_batch_size_continues_at_the_first_row_not_seen(
    monkeypatch: pytest.MonkeyPatch, world: int, size: int, drop_last: bool
) -> None:
    before = EpochBatches(np.arange(40), 6, shuffle=True, seed=5, drop_last=drop_last)
    before.set_epoch(3)
    seen = flat(batches(before)[:4])
    row = before.row_after(4)
    assert row == len(seen) == 24
    parts = []
    for rank in range(world):
        on_rank(monkeypatch, rank, world)
        after = EpochBatches(np.arange(40), size, shuffle=True, seed=5, drop_last=drop_last)
        after.resume(3, row)
        after.set_epoch(3)
        parts.append(batches(after))
        assert after.counted(row) + len(parts[-1]) == len(after), "the epoch has its usual number of batches"
    rest = [row for step in zip(*parts, strict=True) for row in flat(step)]
    assert len(set(seen) | set(rest)) == len(seen) + len(rest), "no row is seen twice"
    left = 40 - 24 - len(rest)
    assert 0 <= left < (size * world if drop_last else world)


def test_an_unused_iterator_reads_nothing() -> None:
    # A loader with workers makes two and uses the second.
    sampler = EpochBatches(np.arange(40), 8, shuffle=True)
    sampler.resume(0, 24)
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


def ring(rows: int, reach: int) -> np.ndarray:
    """Each row's next ones, and a gap."""
    table = np.arange(rows)[:, None] + np.arange(1, reach + 1)
    return np.concatenate((np.full((rows, 1), -1), table % rows), axis=1)


def near(count: int, *, world: int = 1, **settings: float) -> EpochBatches:
    neighbours = Neighbours(ring(count, 6), **settings)  # type: ignore[arg-type]
    return EpochBatches(np.arange(count) + 100, 12 // world, shuffle=True, seed=3, neighbours=neighbours)


def pairs_together(parts: list[list[int]]) -> int:
    return sum(place + 1 in part for part in parts for place in part)


def test_neighbours_share_a_batch_and_each_row_occurs_once() -> None:
    for epoch in range(3):
        alone = EpochBatches(np.arange(240) + 100, 12, shuffle=True, seed=3)
        drawn = [near(240, share=0.5, size=4), near(240, share=1.0, size=4), near(240, share=1.0, size=12)]
        for sampler in (alone, *drawn):
            sampler.set_epoch(epoch)
        found = [batches(sampler) for sampler in (alone, *drawn)]
        for parts in found:
            assert [len(part) for part in parts] == [12] * 20
            assert sorted(flat(parts)) == list(range(100, 340))
        counts = [pairs_together(parts) for parts in found]
        assert counts == sorted(counts)
        assert counts[0] < 30
        assert counts[1] > 60
        assert counts[2] > 110


def test_neighbour_batches_are_reordered_each_epoch() -> None:
    starts = set()
    for epoch in range(20):
        sampler = near(240, share=0.5, size=4)
        sampler.set_epoch(epoch)
        starts.add(batches(sampler)[0][0])
    assert len(starts) > 10


def test_the_nearest_remaining_row_is_taken_and_never_for_the_next_batch() -> None:
    table = np.array([[-1, 2, 1, 3], [0, 2, -1, 3], [1, 0, 3, -1], [2, 1, 0, -1]])
    rng = np.random.default_rng(0)
    assert Neighbours(table, 1.0, 2).together(np.arange(4), 4, rng).tolist() == [0, 2, 1, 3]
    assert Neighbours(table, 1.0, 4).together(np.arange(4), 4, rng).tolist() == [0, 2, 1, 3]
    assert Neighbours(table, 1.0, 4).together(np.array([1, 3, 2, 0]), 3, rng).tolist() == [1, 0, 2, 3]
    assert Neighbours(table, 1.0, 4).together(np.array([1, 3, 2, 0]), 1, rng).tolist() == [1, 3, 2, 0]
    assert Neighbours(table, 1.0, 4).together(np.array([3, 0, 1, 2]), 2, rng).tolist() == [3, 2, 0, 1]


def test_groups_grow_by_the_nearest_neighbour_of_a_member() -> None:
    table = np.array([[1, 2, 5], [4, 0, 3], [0, 1, 5], [5, 1, 0], [1, 0, -1], [3, 2, 1]])
    found = Neighbours(table, 1.0, 4).together(np.arange(6), 6, np.random.default_rng(0)).tolist()
    assert found == [0, 1, 4, 2, 3, 5], "0 brings 1, which brings its own nearest before 0's second"


def test_a_fraction_of_the_rows_has_hard_negatives_in_its_batch() -> None:
    rows = 4000
    table = np.arange(rows)[:, None] ^ 1  # couples
    for share in (0.0, 0.25, 1.0):
        order = np.random.default_rng(1).permutation(rows)
        found = Neighbours(table, share, 2).together(order, rows, np.random.default_rng(2))
        couples = sum(one ^ 1 == other for one, other in zip(found.tolist(), found[1:].tolist(), strict=False))
        assert abs(couples / (rows / 2) - share) < 0.03


def test_near_rows_resume_and_are_shared_between_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = near(250, share=0.7, size=3)
    whole.set_epoch(5)
    order = batches(whole)
    fresh = near(250, share=0.7, size=3)
    fresh.resume(5, 7 * 12)
    assert batches(fresh) == order[7:]
    parts = []
    for rank in range(3):
        on_rank(monkeypatch, rank, 3)
        sampler = near(250, world=3, share=0.7, size=3)
        sampler.set_epoch(5)
        parts.append(batches(sampler))
    assert [flat(step) for step in zip(*parts, strict=True)] == order


def test_without_shuffling_the_order_is_kept() -> None:
    neighbours = Neighbours(ring(6, 2), 1.0, 3)
    assert flat(batches(EpochBatches(np.arange(6), 3, shuffle=False, neighbours=neighbours))) == list(range(6))
