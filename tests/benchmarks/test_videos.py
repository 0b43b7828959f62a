"""The benchmark of videos runs, and its scores are what they are called."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks import videos


@pytest.fixture(autouse=True)
def threads():
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def test_ranks_count_ties_against_and_take_the_best_relevant_column() -> None:
    scores = np.array([[0.9, 0.5, 0.5, 0.1], [0.2, 0.2, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]])
    relevant = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]], bool)
    assert videos.ranks(scores, relevant).tolist() == [2, 2, 0]


def test_tables_of_a_tiny_run(tmp_path: Path, capsys) -> None:
    """Mean-pooled frames are at chance within the pairs of task order, by construction."""
    sizes = ["--seeds", "0", "--epochs", "1", "--train", "16", "--test", "16", "--frames"]
    result = videos.main(["--methods", "frames", "--tasks", "order", *sizes, "--json", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == result
    (row,) = result["accuracy"]
    assert row["scores"]["pair"][0] == 0.5
    assert row["tokens"] == 16
    assert "| order | frames |" in capsys.readouterr().out


def test_costs_of_one_clip() -> None:
    row = videos.cost("trajvit grid", 6, 32, 1)
    assert row["tokens"] == 64
    assert row["frames"] == 6
    assert row["total_s"] >= row["encoder_s"] > 0
    assert row["memory_mib"] >= 0
