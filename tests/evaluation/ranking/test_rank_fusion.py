"""Several models as one, by the mean of the ranks: against a loop, through bundles, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmalign
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.scoring import Block, margin_of
from mmalign.errors import UserError
from mmalign.evaluation.ranking.rank_fusion import mean_rank_blocks, mid_ranks
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from tests.evaluation.running import evaluate_retrieval

Make = Callable[..., Dataset]
DIM = 8


def slow_ranks(row: list[float]) -> list[float]:
    """1 + how many are better + half of how many others are equal, each found by looking at all."""
    return [1 + sum(x > y for x in row) + (sum(x == y for x in row) - 1) / 2 for y in row]


@pytest.mark.parametrize("levels", [2, 4, 200, 10_000])
@pytest.mark.parametrize("size", [1, 2, 15, 60])
def test_ranks_against_a_loop(levels: int, size: int) -> None:
    """Ties of every length, a transpose, and margins of each score's own."""
    scores = torch.as_tensor(np.random.default_rng(0).integers(0, levels, (size, 20)), dtype=torch.float32).T
    expected = [slow_ranks(row) for row in scores.tolist()]
    for margin in (margin_of(scores), margin_of(scores).expand_as(scores), torch.zeros(20, 1)):
        assert mid_ranks(Block(0, scores, margin)).tolist() == expected


@pytest.mark.parametrize("copies", [1, 30])
def test_ties_use_the_margin_of_each_score(copies: int) -> None:
    """A score with a wide margin sees a tie where its neighbour with a narrow one does not."""
    scores = torch.tensor([[1.0, 1.5] + [9.0] * copies])
    margin = torch.tensor([[1.0, 0.1] + [0.0] * copies])
    first, second, *others = mid_ranks(Block(0, scores, margin))[0].tolist()
    assert (first, second) == (copies + 1.5, copies + 1)
    assert set(others) == {(copies + 1) / 2}


def test_last_bits_are_a_tie() -> None:
    scores = torch.tensor([[0.7, float(np.nextafter(np.float32(0.7), np.float32(1))), 0.1]])
    assert mid_ranks(Block(0, scores, margin_of(scores))).tolist() == [[1.5, 1.5, 3]]


def test_the_mean_of_ranks_against_a_loop() -> None:
    draw = np.random.default_rng(1)
    tables = [draw.integers(0, 9, (7, 12)).astype(np.float32) * scale for scale in (1.0, 100.0, 0.01)]
    expected = [np.mean([slow_ranks(table[i].tolist()) for table in tables], axis=0) for i in range(7)]
    for step in (1, 3, 7):
        cut = [
            [Block(i, torch.tensor(t[i : i + step]), torch.zeros(min(step, 7 - i), 1)) for i in range(0, 7, step)]
            for t in tables
        ]
        got = torch.cat([block.scores for block in mean_rank_blocks(cut)]) / -3
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def vectors(seed: int, pairs: tuple[str, ...] = ("clip",)) -> Aligner:
    """Two towers that turn vectors in their own way."""
    torch.manual_seed(seed)
    tower = TowerConfig(modality="vector", args={"width": DIM})
    towers = {"left": tower, "right": tower}
    transforms = fit_transforms(towers, {"left": [], "right": []})
    return Aligner(towers, [PairConfig("left", "right", name) for name in pairs], 4, transforms)


@pytest.fixture
def data(paired: Make, random_rows: Callable[..., Any]) -> Dataset:
    return paired(random_rows(40, noise=0.3))


def test_an_evaluation_against_a_loop(data: Dataset) -> None:
    models = [vectors(seed) for seed in range(3)]
    result = evaluate_retrieval(
        models[0], data, a="left", b="right", split="test", bootstrap=0, ensemble=models[1:], ks=(1, 5)
    )
    rows = data.split("test").records
    means = np.zeros((40, 40))
    for model in models:
        left, right = (model.encode(side, [row.values[side][0] for row in rows]) for side in ("left", "right"))
        means += [slow_ranks(row) for row in model.similarity(left, right).double().tolist()]
    better = [sum(mean <= own for mean in row) for row, own in zip(means, means.diagonal(), strict=True)]
    assert (result.details["left_to_right"].best + 1).tolist() == better  # ties count against
    assert result.scores["left_to_right"]["mean_rank"] == pytest.approx(np.mean(better))
    assert "ranks of 3 models" in result.provenance["protocol"]["ensemble"]
    alone = evaluate_retrieval(models[0], data, a="left", b="right", split="test", bootstrap=0, ks=(1, 5))
    assert alone.scores != result.scores
    assert "bundles" not in alone.provenance


def test_an_ensemble_of_one_model_twice_changes_nothing(data: Dataset) -> None:
    model = vectors(0)
    ask = {"a": "left", "b": "right", "split": "test", "bootstrap": 0}
    alone = evaluate_retrieval(model, data, **ask)
    twice = evaluate_retrieval(model, data, **ask, ensemble=[model])
    assert twice.scores == alone.scores
    assert evaluate_retrieval(model, data, **ask, ensemble=[vectors(1, ("siglip",))], rerank=40).scores == (
        evaluate_retrieval(model, data, **ask, ensemble=[vectors(1, ("siglip",))]).scores
    )


def test_every_model_reads_by_its_own_transforms(
    paired: Make, unit: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two text towers with vocabularies of their own: each must meet its own tokens."""
    sentences = ["a red disc", "two cats", "a green square", "something black", "a blue disc", "the yellow one"]
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        towers = {
            "left": TowerConfig(modality="vector", args={"width": DIM}),
            "words": TowerConfig(modality="text", args={"width": 16, "depth": 1, "heads": 2}),
        }
        fitted = fit_transforms(towers, {"left": [], "words": sentences[seed * 3 : seed * 3 + 3] * 20})
        made.append(Aligner(towers, [PairConfig("left", "words")], 4, fitted))
    assert made[0].transforms["words"].config() != made[1].transforms["words"].config()
    data = paired([{"left": unit(1, i), "words": words} for i, words in enumerate(sentences)], ("left", "words"))
    result = evaluate_retrieval(made[0], data, a="left", b="words", split="test", bootstrap=0, ensemble=[made[1]])
    means = np.zeros((6, 6))
    for model in made:
        left = model.encode("left", [unit(1, i) for i in range(6)])
        means += [slow_ranks(row) for row in model.similarity(left, model.encode("words", sentences)).double().tolist()]
    expected = [sum(mean <= own for mean in row) for row, own in zip(means, means.diagonal(), strict=True)]
    assert (result.details["left_to_words"].best + 1).tolist() == expected
    again = evaluate_retrieval(made[0], data, a="left", b="words", split="test", bootstrap=0, ensemble=[made[1]])
    torch.testing.assert_close(again.details["left_to_words"].best, result.details["left_to_words"].best)


def test_bundles_are_named(data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [mmalign.save(vectors(seed), tmp_path / f"bundle{seed}") for seed in range(2)]
    model = mmalign.load(folders[0])
    result = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=0, ensemble=[str(folders[1])])
    named = result.provenance["bundles"]
    assert [Path(one["path"]).name for one in named] == ["bundle0", "bundle1"]
    assert [one["hash"] for one in named] == [mmalign.bundles.bundle.fingerprint(folder) for folder in folders]
    result.show()
    assert named[1]["hash"] in capsys.readouterr().out


def test_a_model_without_the_towers(data: Dataset, model: Aligner) -> None:
    one = vectors(0)
    towers = {name: TowerConfig(modality="vector", args={"width": DIM}) for name in ("left", "other")}
    other = Aligner(towers, [PairConfig("left", "other")], 4, fit_transforms(towers, {"left": [], "other": []}))
    with pytest.raises(UserError, match="has no tower 'right', it has left, other"):
        evaluate_retrieval(one, data, a="left", b="right", split="test", ensemble=[other])
    with pytest.raises(UserError, match="no bundle at"):
        evaluate_retrieval(one, data, a="left", b="right", split="test", ensemble=["nowhere"])


def test_models_that_read_other_rows(tmp_path: Path) -> None:
    """A row that only one of them refuses would shift the pairing."""
    for i in range(200):
        np.save(tmp_path / f"{i}.npy", np.full((2, DIM) if i == 9 else (DIM,), i + 1.0, dtype=np.float32))
    table = tmp_path / "rows.tsv"
    table.write_text("left\tright\tsplit\n" + "".join(f"{i}.npy\t{i // 9 + 10}.npy\ttest\n" for i in range(200)))
    config = DataConfig(manifest=str(table), columns={"left": "left", "right": "right"})
    one = vectors(0)
    towers = {"left": TowerConfig(modality="bag", args={"width": DIM}), "right": one.towers["right"]}
    other = Aligner(towers, [PairConfig("left", "right")], 4, fit_transforms(towers, {"left": [], "right": []}))
    data = Dataset.open(config, one.modalities)
    with pytest.raises(UserError, match="can read the same rows"):
        evaluate_retrieval(one, data, a="left", b="right", split="test", bootstrap=0, ensemble=[other])
