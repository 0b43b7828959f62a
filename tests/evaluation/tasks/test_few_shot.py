"""Few-shot: accuracies equal loops in float64, chance is chance, separable classes are found, settings are checked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.probing.folds import Fold
from mmalign.evaluation.run_task import evaluate
from mmalign.evaluation.tasks.few_shot import accuracies, class_mean_scores
from mmalign.model import Aligner
from tests.evaluation.running import evaluate_few_shot

Make = Callable[..., Dataset]


def labelled(count: int = 240, *, noise: float = 0.3, classes: int = 6) -> list[dict[str, Any]]:
    """Vectors around the axis of their class, three of one group."""
    rng = np.random.default_rng(3)
    rows = []
    for index in range(count):
        vector = np.eye(8)[index // 3 % classes] + noise * rng.standard_normal(8)
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        rows.append({"left": vector.tolist(), "label": f"c{index // 3 % classes}", "group": f"g{index // 3}"})
    return rows


def softmax_regression(support: np.ndarray, truth: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Multinomial logistic regression, sum of cross-entropies + |W|^2 / 2, by gradient descent; predicted classes."""
    mean, sd = support.mean(axis=0), support.std(axis=0)
    inputs, judged = ((x - mean) / sd for x in (support, query))
    ways = truth.max() + 1
    weight, bias = np.zeros((inputs.shape[1], ways)), np.zeros(ways)
    step = 1 / (1 + (inputs**2).sum() + len(inputs))  # below 2 / the largest curvature
    for _ in range(20_000):
        logits = inputs @ weight + bias
        error = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = error / error.sum(axis=1, keepdims=True) - np.eye(ways)[truth]
        weight, bias = weight - step * (inputs.T @ error + weight), bias - step * error.sum(axis=0)
    return (judged @ weight + bias).argmax(axis=1)


def test_accuracies_equal_loops_in_float64() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 4)) * [1, 5, 0.1, 1]
    features = np.concatenate([centre + rng.standard_normal((9, 4)) * [1, 5, 0.1, 1] for centre in centres])
    fold = Fold(np.arange(27).reshape(3, 9)[:, :4], np.arange(27).reshape(3, 9)[:, 4:])
    head, nearest = accuracies(features, fold)
    truth = np.repeat(range(3), 4)
    expected = softmax_regression(features[fold.support.ravel()], truth, features[fold.query.ravel()])
    assert head == (expected == np.repeat(range(3), 5)).mean()
    right = 0
    for kind in range(3):
        for row in fold.query[kind]:
            cosines = []
            for rows in fold.support:
                mean = sum(features[one] / np.sqrt((features[one] ** 2).sum()) for one in rows) / 4
                cosines.append(features[row] @ mean / np.sqrt((mean**2).sum() * (features[row] ** 2).sum()))
            right += int(np.argmax(cosines)) == kind
    assert nearest == right / 15
    assert 0 < nearest < head


def test_a_zero_vector_has_cosine_zero() -> None:
    assert class_mean_scores(np.zeros((2, 1, 3)), np.ones((1, 3))).tolist() == [[0, 0]]


def test_mean_and_deviation_are_those_of_the_folds(model: Aligner, paired: Make) -> None:
    data = paired(labelled(noise=0.6), ("left",))
    result = evaluate_few_shot(model, data, side="left", split="test", shots=(1, 5), queries=6, folds=4)
    table, folds = result.scores["accuracy"], result.scores["fold_accuracies"]
    assert list(table) == [f"5-way {k}-shot, {head}" for k in (1, 5) for head in ("linear head", "nearest class mean")]
    for title, row in table.items():
        values = folds[title]
        mean = sum(values) / 4
        assert row["accuracy"] == pytest.approx(mean)
        assert row["sd"] == pytest.approx((sum((value - mean) ** 2 for value in values) / 3) ** 0.5)
        assert (row["lowest"], row["highest"]) == (min(values), max(values))
    assert table["5-way 1-shot, linear head"]["accuracy"] < table["5-way 5-shot, linear head"]["accuracy"]
    # The vectors pass through the tower: the same folds on the data themselves.
    vectors = np.array([record.values["left"][0] for record in data.split("test").records], dtype=np.float64)
    each = [accuracies(vectors, fold) for fold in result.details["folds"][5]]
    assert [list(values) for values in list(folds.values())[2:]] == np.array(each).T.tolist()
    assert result.scores["chance"] == 0.2


def test_classes_that_can_be_separated_are(model: Aligner, paired: Make) -> None:
    data = paired(labelled(noise=0.05), ("left",))
    result = evaluate(model, data, "few-shot", pair=("left", "words"), split="test")
    assert [row["accuracy"] for row in result.scores["accuracy"].values()] == [1, 1]
    assert result.scores["groups"] == 80
    result.show()


def test_random_labels_are_at_chance(model: Aligner, paired: Make) -> None:
    """Twins of a group have the same vector and label: torn, they would give each other away."""
    rng = np.random.default_rng(1)
    rows = []
    for group in range(120):
        vector = rng.standard_normal(8).astype(np.float32)
        rows += [{"left": vector.tolist(), "label": f"c{group % 6}", "group": f"g{group}"}] * 3
    data = paired(rows, ("left",))
    scores = evaluate_few_shot(model, data, side="left", split="test", folds=40, queries=20).scores
    for row in scores["accuracy"].values():
        assert abs(row["accuracy"] - scores["chance"]) < 0.05


def test_the_seed_sets_the_folds(model: Aligner, paired: Make) -> None:
    data = paired(labelled(noise=0.8), ("left",))
    first, again, other = (
        evaluate_few_shot(model, data, side="left", split="test", seed=seed).scores["fold_accuracies"]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    fewer = evaluate_few_shot(model, data, side="left", split="test", folds=3).scores["fold_accuracies"]
    assert {title: values[:3] for title, values in first.items()} == fewer


def test_one_fold_has_no_deviation(model: Aligner, paired: Make) -> None:
    result = evaluate_few_shot(model, paired(labelled(), ("left",)), side="left", split="test", folds=1)
    assert all(row["sd"] is None for row in result.to_json()["scores"]["accuracy"].values())


def test_records_with_several_labels_or_none_are_counted_and_excluded(model: Aligner, paired: Make) -> None:
    rows = labelled()
    rows = [row | {"label": [row["label"]]} for row in rows]
    rows[0]["label"], rows[1]["label"] = ["c0", "c1"], []
    scores = evaluate_few_shot(model, paired(rows, ("left",)), side="left", split="test", folds=2).scores
    assert (scores["n"], scores["excluded"]) == (238, 2)


def test_errors_name_the_setting_and_what_the_data_hold(model: Aligner, paired: Make) -> None:
    data = paired(labelled(60), ("left",))
    for option in ({"ways": 1}, {"shots": (0,)}, {"queries": 0}, {"folds": 0}):
        with pytest.raises(UserError, match=f"--{next(iter(option))}: expected at least"):
            evaluate_few_shot(model, data, side="left", split="test", **option)
    with pytest.raises(UserError, match=r"at least 5 classes with 5 \+ 10 samples .* got 0 of 6 classes .*: 12, 12, 9"):
        evaluate_few_shot(model, data, side="left", split="test")
    with pytest.raises(UserError, match="exactly one label, split 'test' has none"):
        evaluate_few_shot(model, paired([{"left": [1.0] * 8}] * 3, ("left",)), side="left", split="test")
