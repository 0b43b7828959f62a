"""A streamed run by its recipe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmalign
from tests.data.conftest import make_png
from tests.data.streaming.conftest import COLUMNS, shards
from tests.training.small_run import SMALL

__all__ = ["shards"]  # a fixture


@pytest.fixture
def png() -> Callable[..., bytes]:
    return make_png


def test_resumed_stream_keeps_the_list_of_rejected_records(shards: Callable[..., str], tmp_path: Path) -> None:
    """A resumed run skips its epoch's earlier records without decoding, by this list."""
    settings: dict[str, Any] = SMALL | {
        "data.source": "webdataset", "data.manifest": shards(4, 25, damaged=tuple(range(7, 100, 20))),
        "data.columns": COLUMNS, "data.stream": True, "data.stream_head": 10, "data.stream_epoch": 80,
        "data.batch_size": 20, "data.max_rejected": 0.5, "trainer.max_epochs": 1,
    }  # fmt: skip
    log = mmalign.train("image-text/demo", settings, out=tmp_path / "run").folder / "rejected.jsonl"
    first = log.read_text().splitlines()
    assert {json.loads(line)["location"] for line in first} >= {"s-000.tar!0007", "s-001.tar!0047"}
    mmalign.train("image-text/demo", {"trainer.max_epochs": 2}, out=tmp_path / "run", resume=True)
    assert log.read_text().splitlines()[: len(first)] == first
