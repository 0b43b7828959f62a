"""Probes: what they read equals scikit-learn, chance is chance, parts of the training rows are fair and fixed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.probing.features import random_copy, tower_features
from mmalign.evaluation.probing.label_fractions import shots_of_classes, strata_of_numbers, stratified_fraction
from mmalign.evaluation.probing.linear_models import less_error, logistic, mean_area, one_vs_rest, probe, ridge
from mmalign.evaluation.run_task import evaluate
from mmalign.model import Aligner
from tests.evaluation.running import evaluate_probe

Make = Callable[..., Dataset]


def rows_of(label: Callable[[int, np.ndarray], Any], count: int = 150) -> list[dict[str, Any]]:
    rng = np.random.default_rng(7)
    rows = []
    for place in range(count):
        vector = rng.standard_normal(8)
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        split = ("train", "train", "train", "validation", "test")[place % 5]
        rows.append({"left": vector.tolist(), "label": label(place, vector), "group": f"g{place // 2}", "split": split})
    return rows


def test_separable_classes_are_separated(model: Aligner, paired: Make) -> None:
    def label(place: int, vector: np.ndarray) -> list[str]:
        return [name for name, place in (("x", 0), ("y", 1)) if vector[place] > 0]

    data = paired(rows_of(label, 400), ("left",))
    result = evaluate_probe(model, data, side="left", split="test", seeds=2, fractions=(0.05, 1.0), bootstrap=20)
    table = result.scores["probes"]
    assert list(table) == [f"{amount} {row}" for amount in ("5 %", "100 %") for row in ("trained", "random", "gain")]
    assert table["100 % trained"]["macro_auroc"] > 0.999
    assert table["100 % trained"]["balanced_accuracy"] > 0.97
    assert table["5 % trained"]["macro_auroc"] < table["100 % trained"]["macro_auroc"]
    assert (table["5 % trained"]["rows"], table["100 % trained"]["rows"]) == (12, 240)
    assert table["100 % trained"]["macro_auroc_sd"] == 0  # the same rows for every seed
    # This encoder has no weights: a random copy is as good.
    assert table["100 % gain"]["macro_auroc"] == 0
    assert table["5 % random"] == table["5 % trained"]


def test_random_labels_are_chance(model: Aligner, paired: Make) -> None:
    rng = np.random.default_rng(1)
    data = paired(rows_of(lambda *_: [str(rng.integers(2))], 600), ("left",))
    table = evaluate_probe(model, data, side="left", split="test", seeds=1, bootstrap=200).scores["probes"]
    low, high = table["100 % trained"]["macro_auroc_ci"]
    assert low < 0.5 < high
    assert abs(table["100 % trained"]["macro_auroc"] - 0.5) < 0.12


def test_ridge_probe_predicts_a_linear_target(model: Aligner, paired: Make) -> None:
    data = paired(rows_of(lambda *_: None, 200), ("left",))
    targets = [{"x": float(3 + 2 * np.array(record.values["left"][0])[1])} for record in data.records]
    records = tuple(replace(record, targets=x) for record, x in zip(data.records, targets, strict=True))
    data = replace(data, records=records)
    result = evaluate_probe(
        model, data, side="left", split="validation", target="x", threshold=3.0, seeds=2, fractions=(1.0,), bootstrap=20
    )
    figures = result.scores["probes"]["100 % trained"]
    assert figures["r2"] > 0.99
    assert figures["auroc"] > 0.99
    with pytest.raises(UserError, match="--shots counts records per class"):
        evaluate_probe(model, data, side="left", split="test", target="x", shots=(1,))


def test_shots_and_one_label_each(model: Aligner, paired: Make) -> None:
    data = paired(rows_of(lambda place, vector: "abc"[int(vector[:3].argmax())], 300), ("left",))
    result = evaluate(model, data, "probe", pair=("left", "words"), split="test", shots=[2, 10], seeds=2, bootstrap=0)
    table = result.scores["probes"]
    assert [table[f"{k} a class trained"]["rows"] for k in (2, 10)] == [6, 30]
    assert table["2 a class trained"]["macro_auroc"] < table["10 a class trained"]["macro_auroc"]
    assert table["10 a class trained"]["macro_auroc"] > 0.8
    assert "100 % trained" not in table
    assert result.details["predicted"]["2 a class trained"].shape == (2, 60, 3)
    np.testing.assert_allclose(result.details["predicted"]["2 a class trained"].sum(axis=2), 1)
    result.show()


def test_fits_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features, judged = rng.standard_normal((50, 4)) * [1, 10, 100, 0.1], rng.standard_normal((9, 4))
    truth = np.eye(3, dtype=bool)[rng.integers(0, 3, 50)]
    scaler = StandardScaler().fit(features)
    scaled, other = scaler.transform(features), scaler.transform(judged)
    fitted = LogisticRegression(C=0.1, max_iter=1000).fit(scaled, truth.argmax(axis=1))
    np.testing.assert_allclose(logistic(features, truth, judged, 0.1), fitted.predict_proba(other))
    alone = LogisticRegression(C=0.1, max_iter=1000).fit(scaled, truth[:, 2])
    np.testing.assert_allclose(one_vs_rest(features, truth, judged, 0.1)[:, 2], alone.predict_proba(other)[:, 1])
    number = features @ [1, 0.1, 0.01, 10]
    np.testing.assert_allclose(ridge(features, number, judged, 0.5), Ridge(alpha=2).fit(scaled, number).predict(other))


def test_classes_without_positives_or_negatives_in_training() -> None:
    features, judged = np.eye(3), np.eye(3)[:2]
    truth = np.array([[True, False, False], [True, False, True], [True, False, False]])
    said = one_vs_rest(features, truth, judged, 1.0)
    np.testing.assert_array_equal(said[:, :2], [[1, 0], [1, 0]])
    only = np.array([[False, True, False]] * 3)
    np.testing.assert_array_equal(logistic(features, only, judged, 1.0), [[0, 1, 0]] * 2)


def test_penalty_is_chosen_by_held_out_error() -> None:
    """Noise alone: the stronger the penalty, the nearer to the mean. Something to learn: the weaker, the better."""
    rng = np.random.default_rng(3)
    features, aside = rng.standard_normal((40, 30)), rng.standard_normal((200, 30))
    noise, signal = rng.standard_normal(40), features[:, 0]
    groups = np.arange(40)
    for held_out in (None, (aside, rng.standard_normal(200))):
        assert probe(ridge, less_error, features, noise, aside, groups=groups, held_out=held_out)[1] == 1e-3
    for held_out in (None, (aside, aside[:, 0])):
        assert probe(ridge, less_error, features, signal, aside, groups=groups, held_out=held_out)[1] >= 1
    few = slice(0, 4)
    assert probe(ridge, less_error, features[few], signal[few], aside, groups=groups[few])[1] == 1  # too few to tell
    assert np.isnan(mean_area(np.ones((3, 1), dtype=bool), np.zeros((3, 1))))


def test_folds_keep_groups_whole() -> None:
    """Each pair of rows is one patient and its label is noise: rows apart, the twin would give it away."""
    rng = np.random.default_rng(4)
    features = np.repeat(rng.standard_normal((30, 200)), 2, axis=0)
    number, groups = np.repeat(rng.standard_normal(30), 2), np.repeat(np.arange(30), 2)
    whole, apart = (probe(ridge, less_error, features, number, features, groups=g)[1] for g in (groups, np.arange(60)))
    assert whole <= 0.01
    assert apart == 10


def test_label_fractions_are_stratified_nested_and_fixed() -> None:
    strata = ["a"] * 80 + ["b"] * 20
    small, large = (stratified_fraction(strata, share, seed=5) for share in (0.1, 0.5))
    assert [sum(row >= 80 for row in rows) for rows in (small, large)] == [2, 10]
    assert (len(small), len(large)) == (10, 50)
    assert set(small) <= set(large)
    np.testing.assert_array_equal(small, stratified_fraction(strata, 0.1, seed=5))
    assert set(small) != set(stratified_fraction(strata, 0.1, seed=6))
    assert len(stratified_fraction(strata, 0.0001, seed=0)) == 2
    np.testing.assert_array_equal(stratified_fraction(strata, 1.0, seed=1), np.arange(100))
    with pytest.raises(UserError, match="--fractions"):
        stratified_fraction(strata, 1.5, seed=0)
    assert np.bincount(strata_of_numbers(np.random.default_rng(0).random(50))).tolist() == [5] * 10


def test_shots_are_of_each_class() -> None:
    truth = np.zeros((60, 2), dtype=bool)
    truth[:20, 0] = truth[40:43, 1] = True  # the others have none
    rows = shots_of_classes(truth, 5, seed=0)
    assert truth[rows].sum(axis=0).tolist() == [5, 3]
    assert (~truth[rows].any(axis=1)).sum() == 5
    assert set(rows) != set(shots_of_classes(truth, 5, seed=1))
    with pytest.raises(UserError, match="--shots"):
        shots_of_classes(truth, 0, seed=0)


def test_a_random_copy_has_the_same_architecture(model: Aligner, paired: Make) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (random_copy(model, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    names = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in first.state_dict().items()} == names
    text = ["a red disc"]
    made = [one.encode("words", text).vector for one in (model, first, again, other)]
    assert torch.equal(made[1], made[2])
    assert not any(torch.equal(made[1], vector) for vector in (made[0], made[3]))
    data = paired([{"words": "a red disc"}, {"words": "two cats"}], ("words",))
    for kind, width in (("encoder", 16), ("embedding", 8)):
        features, rows = tower_features(model, data, "words", "test", kind=kind)
        assert (features.shape, rows.tolist()) == ((2, width), [0, 1])
    np.testing.assert_allclose(features[0], made[0][0], atol=1e-6)
    with pytest.raises(UserError, match="did you mean 'encoder'"):
        tower_features(model, data, "words", "test", kind="encodr")


def test_errors(model: Aligner, paired: Make) -> None:
    data = paired(rows_of(lambda *_: None, 20), ("left",))
    with pytest.raises(UserError, match="needs labels, or a number"):
        evaluate_probe(model, data, side="left", split="test")
    with pytest.raises(UserError, match="expected another split to evaluate, got 'train'"):
        evaluate_probe(model, data, side="left", split="train")
    with pytest.raises(UserError, match="--seeds"):
        evaluate_probe(model, data, side="left", split="test", seeds=0)
    data = paired([{"left": [1.0] * 8, "label": "a"}] * 2, ("left",))
    with pytest.raises(UserError, match="no record of split 'train'"):
        evaluate_probe(model, data, side="left", split="test")
