"""A model whose embeddings are known: two vector towers that pass unit vectors through, and a small text tower."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig

DIM = 8
WORDS = ["a red disc", "a blue disc", "a green square", "the picture of a yellow square", "something black", "two cats"]

Table = list[dict[str, Any]]


@pytest.fixture(scope="session")
def model() -> Aligner:
    torch.manual_seed(0)
    vector = {"modality": "vector", "args": {"width": DIM}, "head": "identity"}
    towers = {
        "left": TowerConfig(**vector),
        "right": TowerConfig(**vector),
        "words": TowerConfig(modality="text", args={"width": 16, "depth": 1, "heads": 2}),
    }
    pairs = [PairConfig("left", "right"), PairConfig("left", "words", "siglip")]
    return Aligner(towers, pairs, DIM, fit_transforms(towers, {"left": [], "right": [], "words": WORDS * 20}))


@pytest.fixture
def paired(model: Aligner, tmp_path: Path) -> Callable[..., Dataset]:
    """Rows -> prepared data, by way of a Parquet file. A row that says no other is in the split `test`."""

    def make(rows: Table, sides: tuple[str, ...] = ("left", "right"), splits: list[str] | None = None) -> Dataset:
        path = tmp_path / f"rows{len(list(tmp_path.iterdir()))}.parquet"
        pq.write_table(pa.Table.from_pylist([{"split": "test"} | row for row in rows]), path)
        return Dataset.open(
            DataConfig(manifest=str(path), columns={side: side for side in sides}),
            {side: model.modalities[side] for side in sides},
            splits=splits,
        )

    return make


@pytest.fixture(scope="session")
def unit() -> Callable[..., list[float]]:
    """First numbers of a vector -> that vector at length one, in the model's space."""

    def make(*values: float) -> list[float]:
        row = torch.zeros(DIM)
        row[: len(values)] = torch.tensor(values)
        return torch.nn.functional.normalize(row, dim=0).tolist()

    return make


@pytest.fixture(scope="session")
def random_rows() -> Callable[..., Table]:
    """Pairs of vectors that point nearly the same way."""

    def make(count: int, *, noise: float = 0.5, seed: int = 0) -> Table:
        generator = torch.Generator().manual_seed(seed)
        left = torch.nn.functional.normalize(torch.randn(count, DIM, generator=generator), dim=1)
        right = torch.nn.functional.normalize(left + noise * torch.randn(count, DIM, generator=generator), dim=1)
        pairs = zip(left.tolist(), right.tolist(), strict=True)
        return [{"id": f"r{i}", "left": a, "right": b} for i, (a, b) in enumerate(pairs)]

    return make
