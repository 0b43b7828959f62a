import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmalign.data.sources.record_stream import LostShard
from mmalign.data.streaming.order import Consumer, endless, mixed, one_pass, shuffled
from mmalign.errors import UserError
from tests.data.streaming.conftest import tar_stream


@pytest.mark.parametrize("consumers", [1, 2, 4, 9])
def test_every_record_is_read_by_one_consumer(shards: Callable[..., str], consumers: int) -> None:
    stream = tar_stream(shards())
    parts = [[r.id for r in one_pass(stream, Consumer(number, consumers))] for number in range(consumers)]
    assert all(parts)
    assert sorted(itertools.chain(*parts)) == [f"s-{n // 5:03}.tar/{n:04}" for n in range(30)]


def test_order_depends_on_seed_epoch_and_pass(shards: Callable[..., str]) -> None:
    stream = tar_stream(shards(12, 1))

    def ids(times: int = 0, **consumer: int) -> list[str]:
        return [record.id for record in one_pass(stream, Consumer(**consumer), times)]

    assert ids(seed=1, epoch=2) == ids(seed=1, epoch=2)
    assert len({tuple(one) for one in (ids(), ids(seed=1), ids(epoch=1), ids(times=1))}) == 4


def test_endless_reads_each_record_once_per_pass(shards: Callable[..., str]) -> None:
    records = endless(tar_stream(shards(3, 2)), Consumer(seed=5), lambda error: None)
    passes = [[next(records).id for _ in range(6)] for _ in range(3)]
    assert len({frozenset(one) for one in passes}) == 1
    assert len({tuple(one) for one in passes}) > 1


def test_lost_shards_are_reported_and_the_others_read(shards: Callable[..., str]) -> None:
    stream = tar_stream(shards())
    Path(stream.addresses[2]).unlink()
    lost: list[LostShard] = []
    assert len(list(one_pass(stream, Consumer(), lost=lost.append))) == 25
    assert [error.shard for error in lost] == ["s-002.tar"]
    with pytest.raises(LostShard, match=r"s-002\.tar: expected a whole tar, got after 0 records FileNotFoundError"):
        list(one_pass(stream, Consumer()))


def test_part_without_any_record_is_an_error(shards: Callable[..., str]) -> None:
    stream = tar_stream(shards(2, 1))
    for address in stream.addresses:
        Path(address).unlink()
    with pytest.raises(UserError, match="process 2 of 2 found no record in its part of 2 shards"):
        next(endless(stream, Consumer(1, 2), lambda error: None))


def test_buffer_shuffles_without_loss_and_is_seeded(shards: Callable[..., str]) -> None:
    stream = tar_stream(shards())
    plain = [record.id for record in one_pass(stream, Consumer())]

    def order(seed: int, buffer: int = 8) -> list[str]:
        found = shuffled(one_pass(stream, Consumer()), buffer, np.random.default_rng(seed))
        return [record.id for record in found]

    assert order(0) == order(0) != order(1)
    assert order(0) != plain
    assert sorted(order(0)) == sorted(plain)
    assert order(0, buffer=0) == plain


def test_mixture_has_the_shares_of_its_weights() -> None:
    rng = np.random.default_rng(0)
    drawn = list(itertools.islice(mixed([itertools.repeat("a"), itertools.repeat("b")], [3, 1], rng), 4000))  # type: ignore[list-item]
    assert 0.72 < drawn.count("a") / len(drawn) < 0.78  # type: ignore[arg-type]
