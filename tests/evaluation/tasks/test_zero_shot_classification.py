"""Zero-shot through a real model: the order of averaging, the scores against scikit-learn, the odd cases."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.metrics.classification import (
    Classified,
    macro_auroc,
    mean_average_precision,
    multi_label_scores,
    single_label_scores,
)
from mmalign.evaluation.metrics.weighted import calibration_error
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings, mean_direction
from mmalign.evaluation.run_task import evaluate
from mmalign.model import Aligner
from tests.evaluation.running import evaluate_zero_shot

Make = Callable[..., Dataset]
NAMES = ["disc", "square", "cat", "dog", "red", "blue", "black"]
PROMPTS = Prompts(("a {}", "the picture of a green {}", "two {} here"))


def loop(model: Aligner, vectors: np.ndarray, names: list[str], prompts: Prompts) -> np.ndarray:
    """Scores in float64, a class and a prompt at a time."""
    columns = []
    for name in names:
        rows = [model.encode("words", [text]).vector[0].double().numpy() for text in prompts.texts(name)]
        mean = np.mean([row / np.linalg.norm(row) for row in rows], axis=0)
        columns.append(vectors @ (mean / np.linalg.norm(mean)))
    return np.stack(columns, axis=1)


@pytest.fixture
def labelled(model: Aligner, paired: Make) -> Callable[..., tuple[Dataset, np.ndarray, list[Any]]]:
    """Vectors near the embedding of their class's prompt, with labels; some classes more often than others."""

    def make(names: list[str], count: int = 60, noise: float = 0.3) -> tuple[Dataset, np.ndarray, list[Any]]:
        generator = torch.Generator().manual_seed(5)
        places = (torch.rand(count, generator=generator) ** 2 * len(names)).long()
        towards = model.encode("words", [PROMPTS.texts(name)[0] for name in names]).vector
        towards = torch.nn.functional.normalize(towards - towards.mean(dim=0), dim=1)
        vectors = towards[places] + noise * torch.randn(count, towards.shape[1], generator=generator)
        vectors = torch.nn.functional.normalize(vectors, dim=1)
        labels = [names[place] for place in places.tolist()]
        rows = [{"left": row, "label": label} for row, label in zip(vectors.tolist(), labels, strict=True)]
        return paired(rows, ("left",)), vectors.double().numpy(), labels

    return make


def test_scores_equal_scikit_learn(model: Aligner, labelled: Any) -> None:
    data, vectors, labels = labelled(NAMES, noise=0.9)
    result = evaluate_zero_shot(model, data, side="left", split="test", prompts=PROMPTS, bootstrap=100)
    names = sorted(NAMES)
    scores = loop(model, vectors, names, PROMPTS)
    truth = np.array([names.index(label) for label in labels])
    predicted = scores.argmax(axis=1)
    logits = model.logit_scale("left", "words") * scores
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    got = result.scores
    assert got["top1"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert got["top5"] == pytest.approx(metrics.top_k_accuracy_score(truth, scores, k=5, labels=range(7)))
    assert got["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    area = metrics.roc_auc_score(truth, probabilities, multi_class="ovr", labels=range(7))
    assert got["macro_auroc"] == pytest.approx(area, abs=1e-6)
    confidence, right = probabilities.max(axis=1), predicted == truth
    bins = np.minimum((confidence * 15).astype(int), 14)
    expected = sum(
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)
    )
    assert got["ece"] == pytest.approx(expected, abs=1e-5)
    assert (got["n"], got["classes"]) == (60, 7)
    np.testing.assert_array_equal(
        result.details["confusion"].numpy(), metrics.confusion_matrix(truth, predicted, labels=range(7))
    )
    recalls = metrics.recall_score(truth, predicted, labels=range(7), average=None)
    assert list(got["per_class_recall"].values()) == pytest.approx(recalls.tolist())
    for name in ("top1", "top5", "balanced_accuracy", "macro_auroc", "ece"):
        low, high = got[f"{name}_ci"]
        assert low < high
    assert got["top1_ci"][0] <= got["top1"] <= got["top1_ci"][1]
    assert 0.2 < got["top1"] < 1  # neither chance nor perfect: the comparison above can fail


def test_normalise_mean_normalise() -> None:
    """A long vector must not outvote a short one: the order of the three steps shows."""
    vectors = torch.tensor([[10.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    owner = torch.tensor([0, 0, 1])
    half = 0.5**0.5
    torch.testing.assert_close(mean_direction(vectors, owner, 2), torch.tensor([[half, half], [0.0, 1.0]]))


def test_class_scores_equal_the_loop(model: Aligner) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(9, 8), dim=1)
    prompts = Prompts(("a {}", "{} {}"), {"x": ("red disc", "two cats", "black"), "y": ("blue",)})
    texts = [prompts.texts(name) for name in ("x", "y")]
    sentences = PromptEmbeddings(model, "words", texts[0] + texts[1])
    got = sentences.class_scores(model.encode("left", list(vectors)), texts)
    torch.testing.assert_close(
        got.double(), torch.from_numpy(loop(model, vectors.double().numpy(), ["x", "y"], prompts))
    )


def test_few_classes_have_no_top5(model: Aligner, labelled: Any) -> None:
    for count in (2, 5, 6):
        data, _, _ = labelled(NAMES[:count])
        scores = evaluate_zero_shot(model, data, side="left", split="test", prompts=PROMPTS, bootstrap=5).scores
        assert ("top5" in scores) == (count > 5)
        assert 0 <= scores["top1"] <= 1


def test_ties_count_against_the_model(model: Aligner, paired: Make, unit: Callable[..., list[float]]) -> None:
    """Two classes of the same text cannot be told apart: neither counts as correct, whichever comes first."""
    rows = [{"left": unit(1, i), "label": "ab"[i % 2]} for i in range(8)]
    prompts = Prompts(classes={"a": ("red",), "b": ("red",)})
    result = evaluate_zero_shot(model, paired(rows, ("left",)), side="left", split="test", prompts=prompts)
    assert (result.scores["top1"], result.scores["balanced_accuracy"]) == (0, 0)
    assert result.scores["macro_auroc"] == 0.5
    assert result.details["confusion"].diagonal().sum() == 0


def test_classes_of_the_prompts_file_are_the_complete_list(model: Aligner, labelled: Any) -> None:
    data, _, _ = labelled(NAMES[:3])
    prompts = Prompts(classes={name: (name,) for name in [*NAMES, "never seen"]})
    result = evaluate_zero_shot(model, data, side="left", split="test", prompts=prompts, bootstrap=10)
    assert result.details["classes"] == [*NAMES, "never seen"]
    assert result.scores["per_class_recall"]["never seen"] is None
    assert result.provenance["prompts_hash"] == prompts.hash


def test_multi_label_equals_scikit_learn(model: Aligner, paired: Make, unit: Callable[..., list[float]]) -> None:
    rng = np.random.default_rng(2)
    labels = [[name for name in NAMES[:4] if rng.random() < 0.4] for _ in range(40)]
    rows = [{"left": rng.standard_normal(8).tolist(), "label": several} for several in labels]
    data = paired(rows, ("left",))
    prompts = Prompts(classes={name: (name,) for name in NAMES[:5]})  # "red" has no positive
    result = evaluate_zero_shot(model, data, side="left", split="test", prompts=prompts, bootstrap=60)
    scores = loop(model, np.array([np.array(r["left"]) / np.linalg.norm(r["left"]) for r in rows]), NAMES[:4], prompts)
    truth = np.array([[name in several for name in NAMES[:4]] for several in labels])
    assert result.scores["map"] == pytest.approx(
        metrics.average_precision_score(truth, scores, average="macro"), abs=1e-6
    )
    assert result.scores["macro_auroc"] == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-6)
    assert result.scores["n"] == 40  # those without a label are negatives
    assert "top1" not in result.scores
    low, high = result.scores["map_ci"]
    assert low < result.scores["map"] < high


def test_one_label_each_leaves_out_those_without(model: Aligner, paired: Make, unit: Any) -> None:
    rows = [{"left": unit(1, i), "label": label} for i, label in enumerate(["a", "b", None, "a"])]
    scores = evaluate_zero_shot(model, paired(rows, ("left",)), side="left", split="test", bootstrap=5).scores
    assert scores["n"] == 3


def test_records_of_other_classes(model: Aligner, paired: Make, unit: Any) -> None:
    """On a subset of the classes: left out, or one more class with its own prompt."""
    labels = ["disc", "cat", "tree", "disc", "cat", "tree", "tree"]
    rng = np.random.default_rng(5)
    rows = [{"left": rng.standard_normal(8).tolist(), "label": label} for label in labels]
    data, subset = paired(rows, ("left",)), Prompts(classes={"disc": ("disc",), "cat": ("cat",)})
    only = paired([row for row in rows if row["label"] != "tree"], ("left",))
    settings: dict[str, Any] = {"side": "left", "split": "test", "prompts": subset, "bootstrap": 0}
    dropped = evaluate_zero_shot(model, data, other="drop", **settings).scores
    assert (dropped.pop("n"), dropped.pop("n_dropped"), dropped["classes"]) == (4, 3, 2)
    expected = evaluate_zero_shot(model, only, **settings).scores
    assert dropped == {key: value for key, value in expected.items() if key != "n"}
    named = paired([{**row, "label": "other" if row["label"] == "tree" else row["label"]} for row in rows], ("left",))
    three = Prompts(classes={"disc": ("disc",), "cat": ("cat",), "other": ("other",)})
    one_more = evaluate_zero_shot(model, data, other="class", **settings)
    assert one_more.scores == evaluate_zero_shot(model, named, **{**settings, "prompts": three}).scores
    assert one_more.details["classes"] == ["disc", "cat", "other"]
    with pytest.raises(UserError, match="'tree' that is not in the file.*--other drop"):
        evaluate_zero_shot(model, data, **settings)
    with pytest.raises(UserError, match="--other: expected one of error, drop, class"):
        evaluate_zero_shot(model, data, other="dorp", **settings)


def test_errors(model: Aligner, paired: Make, unit: Any) -> None:
    data = paired([{"left": unit(1), "label": "a"}, {"left": unit(1), "label": "a"}], ("left",))
    with pytest.raises(UserError, match="at least two classes"):
        evaluate_zero_shot(model, data, side="left", split="test")
    with pytest.raises(UserError, match="class 'a' that is not in the file"):
        evaluate_zero_shot(model, data, side="left", split="test", prompts=Prompts(classes={"x": ("x",), "y": ("y",)}))
    with pytest.raises(UserError, match="zero-shot needs a tower that reads strings"):
        evaluate(model, data, "zero-shot", pair=("left", "left"))
    bare = paired([{"left": unit(1)}], ("left",))
    with pytest.raises(UserError, match=r"name the column with --data\.columns\.label"):
        evaluate_zero_shot(model, bare, side="left", split="test", prompts=Prompts(classes={"x": ("x",), "y": ("y",)}))


def test_undefined_areas() -> None:
    """A class with no positive, or nothing but positives, has no area; none defined = no number."""
    truth = torch.tensor([[True, False, True], [True, False, False]])
    scores = torch.tensor([[0.1, 0.2, 0.9], [0.2, 0.3, 0.1]])
    assert macro_auroc(truth, scores) == 1
    assert np.isnan(macro_auroc(truth[:, :2], scores[:, :2]))
    assert macro_auroc(truth, 1000 + scores) == 1  # far from 0, where a sigmoid would make ties
    assert mean_average_precision(truth, scores) == 1
    assert np.isnan(mean_average_precision(truth[:, 1:2], scores[:, 1:2]))


def test_calibration_by_hand() -> None:
    """Two bins: 0.9 said and 0.5 true (two samples), 0.6 said and 1 true (one): 2/3 x 0.4 + 1/3 x 0.4."""
    confidence, right = np.array([0.9, 0.9, 0.6]), np.array([True, False, True])
    assert calibration_error(confidence, right) == pytest.approx(0.4)
    assert calibration_error(np.array([1.0 + 2**-52]), np.array([True])) == 0


def test_calibration_error_of_draws_equals_a_loop() -> None:
    """All draws at once equal the definition, draw by draw; a confidence of exactly 1 is a bin of its own."""
    rng = np.random.default_rng(0)
    confidence, right = np.append(rng.uniform(0.2, 1.0, 50), [1.0, 1.0]), rng.random(52) < 0.6
    weights = rng.integers(0, 4, (7, 52)).astype(float)
    got = calibration_error(confidence, right, weights)
    for draw in range(7):
        rows = np.repeat(np.arange(52), weights[draw].astype(int))
        bins = (confidence[rows] * 15).astype(int)
        expected = sum(
            abs(right[rows][bins == b].mean() - confidence[rows][bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
        assert got[draw] == pytest.approx(expected, abs=1e-12)


def test_area_intervals_use_all_resamples() -> None:
    truth = torch.eye(3, dtype=torch.bool).repeat(10, 1)
    given = Classified(torch.randn(30, 3), truth, torch.arange(30), list("abc"))
    assert single_label_scores(given, resamples=1000)[2] == multi_label_scores(given, resamples=1000)[2] == 1000


def test_costly_intervals_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where recomputing would take too long, the score comes without interval, and the count says so."""
    truth = torch.eye(3, dtype=torch.bool).repeat(10, 1)
    given = Classified(torch.randn(30, 3), truth, torch.arange(30), list("abc"))
    monkeypatch.setattr("mmalign.evaluation.metrics.classification._CELLS", 90 * 70)
    assert single_label_scores(given)[2] == 70
    monkeypatch.setattr("mmalign.evaluation.metrics.classification._CELLS", 90 * 20)
    for measure in (single_label_scores, multi_label_scores):
        scores, _, costly = measure(given)
        assert costly == 0
        assert "macro_auroc_ci" not in scores
        assert "macro_auroc" in scores


def test_scale_of_the_objective(model: Aligner) -> None:
    assert model.logit_scale("left", "right") == pytest.approx(1 / 0.07)
    assert model.logit_scale("words", "left") == pytest.approx(10.0)


def test_classes_of_other_splits_can_be_predicted(model: Aligner, paired: Make, unit: Any) -> None:
    """And are known without decoding a row of those splits: this one's vector would not decode."""
    rows = [{"left": unit(1, i), "label": "ab"[i % 2]} for i in range(4)]
    elsewhere = {"left": [float("nan")] * 8, "label": "c", "split": "train"}
    data = paired([*rows, elsewhere], ("left",), splits=["test"])
    result = evaluate_zero_shot(model, data, side="left", split="test", bootstrap=5)
    assert result.details["classes"] == ["a", "b", "c"]
    assert data.rejected == []
