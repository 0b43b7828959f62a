"""Whitening initialisation: against the definition, and through a recipe as a user runs it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import mmalign
from mmalign.errors import UserError
from mmalign.training.run import train
from mmalign.training.starting.whitening import whitening_map


def vectors(rows: int = 200, width: int = 5) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=draw, dtype=torch.float64)
    return torch.randn(rows, width, generator=draw, dtype=torch.float64) @ mixing + 2


def test_whitened_rows_are_uncorrelated_and_sorted_by_variance() -> None:
    x = vectors()
    weight, mean = whitening_map(x, ridge=0.0)
    assert_close(mean, x.mean(0))
    assert_close(torch.cov(((x - mean) @ weight.T).T, correction=0), torch.eye(5).double())
    lengths = weight.norm(dim=1)
    assert (lengths.diff() > 0).all()  # less variance, larger weight
    assert_close(whitening_map(x, 2, ridge=0.3)[0], whitening_map(x, ridge=0.3)[0][:2])


@pytest.mark.parametrize("ridge", [0.0, 0.1, 10.0])
def test_cosines_equal_those_of_zca_with_that_ridge(ridge: float) -> None:
    x = vectors()
    centred = x - x.mean(0)
    covariance = centred.T @ centred / len(x)
    values, directions = np.linalg.eigh((covariance + ridge * covariance.diagonal().mean() * torch.eye(5)).numpy())
    zca = centred.numpy() @ directions @ np.diag(values**-0.5) @ directions.T
    weight, mean = whitening_map(x, ridge=ridge)
    whitened = (x - mean) @ weight.T
    assert_close(whitened @ whitened.T, torch.from_numpy(zca @ zca.T))


def test_directions_without_variance_are_dropped_without_a_ridge() -> None:
    x = vectors(3)  # two directions
    weight, _ = whitening_map(x, ridge=0.0)
    assert weight.isfinite().all()
    assert weight.norm(dim=1).gt(0).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (torch.ones(1, 3), {}, "two or more rows"),
        (torch.full((4, 3), math.nan), {}, "finite"),
        (torch.ones(4, 3), {}, "equal rows"),
        (torch.eye(4), {"dims": 5}, "dims from 1 to 4"),
        (torch.eye(4), {"ridge": -1.0}, "ridge of at least 0"),
    ],
)
def test_bad_input_is_named(x: Tensor, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        whitening_map(x, **arguments)


RECIPE = """
data: {{manifest: {table}, columns: {{left: left}}, batch_size: 20}}
model:
  dim: 4
  towers:
    left: {{modality: vector, args: {{width: 6}}, head: {head}}}
  pairs:
    - {{a: left, b: left, objective: apart}}
  whitening_init: {init}
trainer: {{max_epochs: 0, accelerator: cpu, enable_progress_bar: false}}
"""


def run(folder: Path, init: str, head: str = "affine") -> Path:
    rows = [{"left": row, "split": "train"} for row in vectors(60, 6).tolist()]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    (folder / "recipe.yaml").write_text(RECIPE.format(table=folder / "rows.parquet", init=init, head=head))
    return train(str(folder / "recipe.yaml"), [f"--out={folder / 'run'}"])


def test_a_tower_without_pairs_is_whitened_by_a_recipe(tmp_path: Path) -> None:
    model = mmalign.load(run(tmp_path, "{dims: 3, ridge: 0.2}"))
    x = vectors(60, 6)
    weight, mean = whitening_map(x.float(), 3, 0.2)
    expected = torch.nn.functional.normalize((x - mean) @ weight.T, dim=1)
    got = model.encode("left", x.tolist()).vector
    assert_close(got[:, :3].double(), expected, rtol=1e-4, atol=1e-5)
    assert not got[:, 3].any()


@pytest.mark.parametrize(
    ("init", "head", "message"),
    [
        ("{ridge: 0.1}", "linear", "set towers.left.head: affine"),
        ("{towers: [lef]}", "affine", "no tower 'lef'; did you mean 'left'"),
        ("{dims: 5}", "affine", "from 1 to 4 for towers.left, got 5"),
        ("{dims: 3}\n  cca_init: {}", "affine", "keep one of them"),
    ],
)
def test_what_cannot_be_whitened_is_named(tmp_path: Path, init: str, head: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, init, head)


def test_chunks_and_group_whitening_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs the vectors of the whole batch"):
        run(tmp_path, "null", "affine, chunk: 5, group_whitening: 2")
