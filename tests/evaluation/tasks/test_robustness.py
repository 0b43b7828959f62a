"""Robustness: values equal a loop that perturbs by hand, differences are paired, samples keep their random numbers."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.report.figures import figure
from mmalign.evaluation.run_task import evaluate
from mmalign.evaluation.tasks.robustness import Robustness
from mmalign.modality import Transform
from mmalign.model import Aligner
from tests.evaluation.running import run

Make = Callable[..., Dataset]
LEVELS = {"flip": (0.2, 0.6), "stretch": (2.0, 3.0)}


@pytest.fixture
def model(model: Aligner, monkeypatch: pytest.MonkeyPatch) -> Aligner:
    """Vectors are turned around with the probability `level`, or stretched, which no cosine sees."""

    def perturb(
        self: Any, sample: np.ndarray, transform: Transform, name: str, level: float, rng: np.random.Generator
    ) -> np.ndarray:
        return sample * np.float32(level) if name == "stretch" else -sample if rng.random() < level else sample

    kind = type(model.modalities["left"])
    monkeypatch.setattr(kind, "perturbations", LEVELS, raising=False)
    monkeypatch.setattr(kind, "perturb", perturb, raising=False)
    return model


def turned_around(identity: str, level: float, seed: int = 0) -> bool:
    stream = int.from_bytes(hashlib.sha256(f"{identity}\0{0}\0flip".encode()).digest(), "big")
    return bool(np.random.default_rng((seed, stream)).random() < level)


def test_values_and_paired_differences_equal_a_loop(model: Aligner, paired: Make, random_rows: Make) -> None:
    rows = random_rows(60, noise=0.3)
    result = run("robustness", model, paired(rows), a="left", b="right", split="test", bootstrap=200, seed=3)
    right = np.array([row["right"] for row in rows], dtype=np.float64)
    expected = {}
    for level in (0.0, *LEVELS["flip"]):
        hits = []
        for index, row in enumerate(rows):
            query = np.array(row["left"], dtype=np.float64) * (-1 if turned_around(f"r{index}", level, 3) else 1)
            scores = right @ query
            hits.append(float(scores[index] > np.delete(scores, index).max()))
        expected[level] = np.array(hits)
    table = result.scores["levels"]
    assert list(table) == ["unperturbed", "flip 0.2", "flip 0.6", "stretch 2", "stretch 3"]
    assert table["unperturbed"]["hit@1"] == pytest.approx(expected[0.0].mean())
    for level in LEVELS["flip"]:
        row = table[f"flip {level:g}"]
        assert row["hit@1"] == pytest.approx(expected[level].mean())
        assert row["hit@1_difference"] == pytest.approx((expected[level] - expected[0.0]).mean())
        low, high = row["hit@1_difference_ci"]
        # A paired interval: the standard error of the differences, not of two independent means.
        error = 1.96 * (expected[level] - expected[0.0]).std() / 60**0.5
        assert high - low == pytest.approx(2 * error, rel=0.25)
    assert table["stretch 3"]["hit@1_difference"] == 0
    assert table["stretch 3"]["hit@1_difference_ci"] == [0, 0]
    means = result.scores["means"]
    flipped = (expected[0.2] + expected[0.6]).mean() / 2
    assert means["flip"]["hit@1"] == pytest.approx(flipped)
    assert means["all"]["hit@1"] == pytest.approx((flipped + expected[0.0].mean()) / 2)
    assert means["all"]["hit@1_difference"] == pytest.approx((flipped - expected[0.0].mean()) / 2)
    curve = result.details["curves"]["hit@1"]["flip"]
    assert curve == pytest.approx([expected[level].mean() for level in (0.0, 0.2, 0.6)])


def test_intervals_draw_whole_groups(model: Aligner, paired: Make, unit: Callable[..., list[float]]) -> None:
    """Ten copies of each record in one group: intervals are as wide as those of 40 records, not of 400."""
    generator = np.random.default_rng(0)
    vectors = [unit(*generator.standard_normal(8)) for _ in range(40)]
    copies = [{"id": f"r{i}-{k}", "left": v, "right": vectors[i if i % 2 else i - 2], "group": f"g{i}"}
              for i, v in enumerate(vectors) for k in range(10)]  # fmt: skip
    result = run("robustness", model, paired(copies), a="left", b="right", split="test", perturbations=["stretch"],
                 relevance="group", bootstrap=300)  # fmt: skip
    low, high = result.scores["levels"]["stretch 2"]["hit@1_ci"]
    value = result.scores["levels"]["stretch 2"]["hit@1"]
    assert high - low == pytest.approx(2 * 1.96 * (value * (1 - value) / 40) ** 0.5, rel=0.25)


def test_zero_shot_equals_a_loop(model: Aligner, paired: Make, random_rows: Make) -> None:
    rows = [row | {"label": ["a red disc", "two cats", "something black"][i % 3]} for i, row in
            enumerate(random_rows(30))]  # fmt: skip
    rows[4]["label"] = None
    data = paired([{"id": row["id"], "left": row["left"], "label": row["label"]} for row in rows], ("left",))
    result = evaluate(model, data, Robustness(perturbations=["flip"]), pair=("left", "words"), split="test")
    names = sorted({row["label"] for row in rows if row["label"]})
    prompts = torch.nn.functional.normalize(model.encode("words", names).vector.double(), dim=1).numpy()
    assert (result.scores["n"], result.scores["n_top1"]) == (30, 29)
    for level in (0.0, *LEVELS["flip"]):
        right = []
        for index, row in enumerate(rows):
            if row["label"] is not None:
                vector = np.array(row["left"]) * (-1 if turned_around(f"r{index}", level) else 1)
                right.append(names[int((prompts @ vector).argmax())] == row["label"])
        row = "unperturbed" if level == 0 else f"flip {level:g}"
        assert result.scores["levels"][row]["top1"] == pytest.approx(np.mean(right))
    assert "hit@1" not in result.scores["levels"]["unperturbed"]
    result.show()
    assert [axes.get_ylabel() for axes in figure(result).axes] == ["top1"]


def test_random_numbers_belong_to_the_record(model: Aligner, paired: Make, random_rows: Make) -> None:
    rows = random_rows(40)
    options: dict[str, Any] = {"a": "left", "b": "right", "split": "test", "bootstrap": 0, "perturbations": ["flip"]}
    first = run("robustness", model, paired(rows), **options)
    back = run("robustness", model, paired(rows[::-1]), batch_size=7, **options)
    for row, values in first.details["values"]["hit@1"].items():
        np.testing.assert_array_equal(values, back.details["values"]["hit@1"][row][::-1])
    other = run("robustness", model, paired(rows), seed=1, **options)
    assert (other.details["values"]["hit@1"]["flip 0.6"] != first.details["values"]["hit@1"]["flip 0.6"]).any()
    assert "hit@1_ci" not in first.scores["levels"]["flip 0.2"]


def test_the_tower_is_the_one_that_is_named(model: Aligner) -> None:
    assert Robustness().towers(model, ("words", "left")) == ("left", "words")
    assert Robustness(tower="right").towers(model, ("left", "right")) == ("right", "left")
    with pytest.raises(UserError, match="--tower: expected a tower of the pair left right, got 'words'"):
        Robustness(tower="words").towers(model, ("left", "right"))


def test_errors(model: Aligner, paired: Make, random_rows: Make) -> None:
    data = paired(random_rows(4))
    with pytest.raises(UserError, match="--perturbations: no perturbation called 'flib'; did you mean 'flip'"):
        run("robustness", model, data, a="left", b="right", split="test", perturbations=["flib"])
    message = "'text' of the tower 'words' has no perturbations; modalities that have them: .*ecg, image, pointcloud"
    with pytest.raises(UserError, match=message):
        run("robustness", model, data, a="words", b="left", split="test")
    alone = paired([{"left": row["left"]} for row in random_rows(4)], ("left",))
    with pytest.raises(UserError, match="nothing to measure in split 'test': expected a column of the tower 'words'"):
        evaluate(model, alone, "robustness", pair=("left", "words"), split="test")
