"""The judge of the benchmark against loops written out, and the clock on a program of known steps."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from figures import Scores, difference, interval, rate, retrieval, table, zero_shot

HERE = Path(__file__).resolve().parent


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    values = rng.standard_normal((rows, 5))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_retrieval_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    pictures, captions = unit(rng, 40), unit(rng, 40)
    scores = retrieval(pictures, captions, [str(row // 2) for row in range(40)])
    for row in range(40):
        forth = sum(pictures[row] @ captions[other] >= pictures[row] @ captions[row] for other in range(40))
        back = sum(pictures[other] @ captions[row] >= pictures[row] @ captions[row] for other in range(40))
        assert scores.outcomes["hit@10"][row] == (int(forth <= 10) + int(back <= 10)) / 2
        assert scores.outcomes["mrr"][row] == pytest.approx((1 / forth + 1 / back) / 2)
    assert len(set(scores.clusters)) == 20
    both = scores.mean("image_to_text hit@10") + scores.mean("text_to_image hit@10")
    assert scores.mean("hit@10") == pytest.approx(both / 2)
    assert {0.0, 0.5, 1.0} == set(scores.outcomes["hit@10"])


def test_a_collapsed_encoder_scores_zero() -> None:
    same = np.tile([1.0, 0.0], (30, 1))
    assert retrieval(same, same, [str(row) for row in range(30)]).mean("hit@10") == 0
    assert zero_shot(same, same[:3], np.zeros(30, dtype=int)).mean("top1") == 0


def test_zero_shot_counts_the_nearest_class() -> None:
    classes = np.eye(3)
    pictures = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.8, 0.6]])
    assert zero_shot(pictures, classes, np.array([0, 1, 1])).outcomes["top1"].tolist() == [1, 0, 1]


def coins(rng: np.random.Generator, share: float, seeds: int = 3, items: int = 400) -> list[Scores]:
    return [Scores({"hit": (rng.random(items) < share).astype(float)}, np.arange(items)) for _ in range(seeds)]


def test_interval_contains_the_rate_and_has_binomial_width() -> None:
    rng = np.random.default_rng(1)
    low, high = interval(coins(rng, 0.7, seeds=1), "hit")
    assert low < 0.7 < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 400), rel=0.15)


def test_difference_is_significant_only_for_different_rates() -> None:
    rng = np.random.default_rng(2)
    mean, low, high = difference(coins(rng, 0.7), coins(rng, 0.7), "hit")
    assert low < mean < high
    assert low < 0 < high
    mean, low, high = difference(coins(rng, 0.5), coins(rng, 0.7), "hit")
    assert high < 0


def test_clusters_are_drawn_whole() -> None:
    outcomes = np.repeat([0.0, 1.0], 200)
    alone = interval([Scores({"hit": outcomes}, np.arange(400))], "hit")
    together = interval([Scores({"hit": outcomes}, np.repeat(np.arange(4), 100))], "hit")
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])


def test_rate_is_of_the_median_epoch_and_leaves_out_the_first_step() -> None:
    # Two steps an epoch, half a second each; the third epoch was disturbed, and start-up lies before the first step.
    ends = [100.0, 100.5, 101.0, 101.5, 111.0, 111.5, 112.0, 112.5]
    assert rate(ends, steps=2, batch_size=8) == pytest.approx(16.0)
    with pytest.raises(ValueError, match="multiple of 2"):
        rate(ends[:3], steps=2, batch_size=8)


def test_rate_counts_what_happens_between_epochs() -> None:
    assert rate([0, 1, 2, 5, 6, 7, 10, 11, 12], steps=3, batch_size=5) == pytest.approx(5 / (5 / 3))


def test_step_times_are_recorded_for_every_optimiser_step(tmp_path: Path, forked_python: Path) -> None:
    (tmp_path / "toy.py").write_text(
        "import sys, torch\n"
        "weight = torch.nn.Parameter(torch.ones(1))\n"
        "optimizer = torch.optim.SGD([weight], lr=0.1)\n"
        "for _ in range(int(sys.argv[1])):\n"
        "    weight.grad = torch.ones(1)\n"
        "    optimizer.step()\n"
        "sys.exit(3)\n"
    )
    command = [str(forked_python), str(HERE / "stepclock.py"), str(tmp_path / "times.json"), "toy", "5"]
    assert subprocess.run(command, cwd=tmp_path).returncode == 3
    ends = json.loads((tmp_path / "times.json").read_text())
    for kind in ("wall", "processor"):
        assert len(ends[kind]) == 5
        assert ends[kind] == sorted(ends[kind])


def test_table_is_markdown() -> None:
    assert table([{"a": "1", "b": "2"}]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
