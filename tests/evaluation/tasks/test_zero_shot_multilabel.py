"""Zero-shot detection through a real model: scores by a loop, thresholds of another split, what is left out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import best_threshold
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts, ValuePrompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.run_task import evaluate
from mmalign.evaluation.tasks.zero_shot_multilabel import class_figures, detection_scores
from mmalign.model import Aligner
from tests.evaluation.running import evaluate_multi_label

Make = Callable[..., Dataset]
PROMPTS = ClassPrompts(
    {"disc": ("a red disc", "a blue disc"), "cat": ("two cats",), "dog": ("something black",)},
    {"disc": ("a green square", "something black"), "cat": ("no cats",)},
)


@pytest.fixture
def patients(model: Aligner, paired: Make) -> Dataset:
    """Vectors near what their labels say, three rows a patient; a validation split beside the test split."""
    rng = np.random.default_rng(1)
    towards = {name: model.encode("words", [texts[0]]).vector[0].numpy() for name, texts in PROMPTS.positive.items()}
    rows = []
    for patient in range(30):
        labels = [name for name in ("disc", "cat", "dog") if rng.random() < 0.4]
        for _ in range(3):
            vector = sum((towards[name] for name in labels), 0.4 * rng.standard_normal(8))
            rows.append(
                {
                    "left": (vector / np.linalg.norm(vector)).tolist(),
                    "label": labels,
                    "group": f"p{patient}",
                    "split": "validation" if patient < 10 else "test",
                }
            )
    return paired(rows, ("left",))


def test_scores_equal_the_loop(model: Aligner) -> None:
    """The mean direction of the sentences for a class, less that of those against it."""
    vectors = model.encode("left", list(np.eye(8, dtype=np.float32)))
    got = detection_scores(PromptEmbeddings(model, "words", PROMPTS.sentences()), vectors, PROMPTS)

    def cosine(texts: tuple[str, ...]) -> np.ndarray:
        rows = [model.encode("words", [text]).vector[0].double().numpy() for text in texts]
        direction = np.mean([row / np.linalg.norm(row) for row in rows], axis=0)
        return np.eye(8) @ direction / np.linalg.norm(direction)

    expected = [cosine(PROMPTS.positive[n]) - (cosine(PROMPTS.negative[n]) if n in PROMPTS.negative else 0)
                for n in PROMPTS.names]  # fmt: skip
    np.testing.assert_allclose(got, np.stack(expected, axis=1), atol=1e-6)


def test_figures_equal_scikit_learn(model: Aligner, patients: Dataset) -> None:
    result = evaluate_multi_label(
        model, patients, side="left", class_side="words", split="test", prompts=PROMPTS, bootstrap=50
    )
    classes, truth, margins = (result.details[key] for key in ("classes", "truth", "margins"))
    assert classes == ["disc", "cat", "dog"]
    assert (result.scores["n"], result.scores["groups"]) == (60, 20)
    for column, name in enumerate(classes):
        row = result.scores["classes"][name]
        assert row["auroc"] == pytest.approx(metrics.roc_auc_score(truth[:, column], margins[:, column]))
        assert row["auprc"] == pytest.approx(metrics.average_precision_score(truth[:, column], margins[:, column]))
        said = margins[:, column] > 0
        assert row["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth[:, column], said))
        assert (row["positives"], row["prevalence"]) == (truth[:, column].sum(), truth[:, column].mean())
        assert row["auroc_ci"][0] < row["auroc"] < row["auroc_ci"][1]
    rows = result.scores["classes"].values()
    for figure in ("auroc", "auprc", "balanced_accuracy"):
        assert result.scores[f"macro_{figure}"] == pytest.approx(np.mean([row[figure] for row in rows]))
    assert result.scores["classes"]["cat"]["threshold"] == 0
    assert result.scores["classes"]["dog"]["threshold"] != 0  # without negative sentences: chosen on validation
    assert result.provenance["protocol"]["thresholds"] == "chosen on validation"


def test_the_threshold_is_the_best_of_the_other_split(model: Aligner, patients: Dataset) -> None:
    """Chosen without a look at what is measured: the test rows alone would choose another."""
    given = {"side": "left", "class_side": "words", "split": "test", "prompts": PROMPTS, "bootstrap": 0}
    got = evaluate_multi_label(model, patients, **given).scores["classes"]["dog"]["threshold"]
    chosen = {}
    for split in ("validation", "test"):
        records = patients.split(split).records
        vectors = model.encode("left", [record.values["left"][0] for record in records])
        scores = detection_scores(PromptEmbeddings(model, "words", PROMPTS.sentences()), vectors, PROMPTS)[:, 2]
        chosen[split] = best_threshold(np.array(["dog" in record.labels for record in records]), scores)
    assert got == pytest.approx(chosen["validation"], abs=1e-6)
    assert got != pytest.approx(chosen["test"], abs=1e-3)


def test_a_missing_tuning_split_is_an_error(model: Aligner, patients: Dataset) -> None:
    given = {"side": "left", "class_side": "words", "split": "test", "prompts": PROMPTS, "bootstrap": 0}
    scores = evaluate_multi_label(model, patients, **given, tune_split="none").scores
    assert "balanced_accuracy" not in scores["classes"]["dog"]
    means = [scores["classes"][name]["balanced_accuracy"] for name in ("disc", "cat")]
    assert scores["macro_balanced_accuracy"] == pytest.approx(np.mean(means))
    with pytest.raises(UserError, match="other than the evaluated one"):
        evaluate_multi_label(model, patients, **given, tune_split="test")
    with pytest.raises(UserError, match="no record of that split"):
        evaluate_multi_label(model, patients, **given, tune_split="train")


def test_labels_without_prompts_are_named_and_counted(
    model: Aligner, paired: Make, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    cells: list[list[str]] = [["cat;dog"], ["cat", "MI"], ["dog"], ["MI", "cat;dog"], ["disc"], []]
    rows = [{"left": rng.standard_normal(8).tolist(), "label": cell, "split": "test"} for cell in cells]
    with caplog.at_level("WARNING", "mmalign"):
        result = evaluate_multi_label(
            model, paired(rows, ("left",)), side="left", class_side="words", split="test", prompts=PROMPTS, bootstrap=0
        )
    assert result.to_json()["scores"]["labels_without_prompts"] == {"cat;dog": 2, "MI": 2}
    assert result.scores["classes"]["cat"]["positives"] == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert "no prompts for 2 labels, which 3 of 6 rows carry" in line
    assert "cat;dog (2), MI (2)" in line
    assert line.endswith("cat;dog is several classes: --data.separator ';'")


def test_no_warning_where_every_label_has_prompts(
    model: Aligner, patients: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"side": "left", "class_side": "words", "split": "test", "bootstrap": 0}
    for prompts in (PROMPTS, None):  # None: the labels themselves
        result = evaluate_multi_label(model, patients, **given, prompts=prompts)
        assert result.scores["labels_without_prompts"] == {}
    assert not caplog.records


def test_a_class_without_both_outcomes_is_named(model: Aligner, patients: Dataset) -> None:
    prompts = ClassPrompts({"disc": ("a disc",), "unicorn": ("a unicorn",)})
    result = evaluate_multi_label(
        model, patients, side="left", class_side="words", split="test", prompts=prompts, bootstrap=0
    )
    assert result.scores["left_out"] == ["unicorn"]
    assert result.scores["macro_auroc"] == result.scores["classes"]["disc"]["auroc"]
    assert set(result.scores["classes"]["unicorn"]) == {"threshold", "prevalence", "positives"}
    with pytest.raises(UserError, match="with and without this label"):
        evaluate_multi_label(model, patients, side="left", class_side="words", split="test",
                             prompts=ClassPrompts({"unicorn": ("a unicorn",)}))  # fmt: skip


def test_intervals_draw_groups() -> None:
    """The same patient ten times is one patient: drawn by rows the interval would be too narrow."""
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.random((12, 1)) < 0.5, 10, axis=0)
    scores = np.repeat(rng.standard_normal((12, 1)), 10, axis=0) + truth
    by = {
        name: class_figures(truth, scores, np.zeros(1), ["x"], groups, resamples=300)["x"]["auroc_ci"]
        for name, groups in (("row", np.arange(120)), ("patient", np.repeat(np.arange(12), 10)))
    }
    assert np.ptp(by["patient"]) > 2 * np.ptp(by["row"])


def test_evaluation_by_task_name_gives_the_same_result(model: Aligner, patients: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text("disc: {positive: [a red disc, a blue disc], negative: a green square}\ncat: two cats\n")
    given = {"pair": ("left", "words"), "split": "test", "prompts": file, "bootstrap": 20}
    result = evaluate(model, patients, "multi-label", **given)
    assert list(result.scores["classes"]) == ["disc", "cat"]
    result.show()
    assert evaluate(model, patients, "multi-label", pair=("left", "words"), split="test", bootstrap=0).scores["n"] == 60
    with pytest.raises(
        UserError, match="--tune_split: the task 'retrieval' does not take this setting; it belongs to multi-l"
    ):
        evaluate(model, patients, "retrieval", pair=("left", "words"), tune_split="train")
    with pytest.raises(UserError, match="no log_variance"):
        evaluate(model, patients, "multi-label", **given, prompt_fraction=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected 'name: value' lines"),
        ("cat: {postive: [a cat]}", "unknown key 'postive'; did you mean 'positive'"),
        ("cat: {negative: [no cat]}", "class 'cat': expected positive sentences"),
        ("cat: [3]", "class 'cat': expected text, got 3"),
        ("yes: [a cat]", "class True: expected text"),
        ("templates: [a]\nclasses: {cat: cat}", "expected {} in every template"),
        ("cat: ['']", "class 'cat' has no text"),
        ("{}", "at least one class"),
        ("classes: [1]", "expected 'name: texts' lines"),
    ],
)
def test_files_that_are_no_class_prompts(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        ClassPrompts.load(tmp_path / "p.yaml")
    assert message in str(error.value)


def test_class_prompts_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "templates: ['a {}', 'one {}']\nclasses: {cat: [cat, kitten], dog: {positive: dog}}"
    )
    prompts = ClassPrompts.load(tmp_path / "p.yaml")
    assert prompts.positive == {"cat": ("a cat", "a kitten", "one cat", "one kitten"), "dog": ("a dog", "one dog")}
    (tmp_path / "q.yaml").write_text("# a comment\ncat: [a cat, a kitten, one cat, one kitten]\ndog: [a dog, one dog]")
    assert ClassPrompts.load(tmp_path / "q.yaml").hash == prompts.hash
    assert PROMPTS.hash != ClassPrompts(PROMPTS.positive).hash


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("values: [1, 2]", "expected {value} in every template"),
        ("values: [2, 1]\ntemplates: ['{value}']", "ascending"),
        ("values: {from: 1, to: 0, step: 1}\ntemplates: ['{value}']", "expected from < to"),
        ("values: [a]\ntemplates: ['{value}']", "expected a number, got 'a'"),
        ("templates: ['{value}']", "expected numbers or {from, to, step}, got None"),
        ("value: [1]", "unknown key 'value'; did you mean 'values'"),
    ],
)
def test_files_that_are_no_value_prompts(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        ValuePrompts.load(tmp_path / "p.yaml")
    assert message in str(error.value)


def test_value_prompts_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("values: {from: 10, to: 12, step: 0.5}\ntemplates: 'EF {value} %'")
    prompts = ValuePrompts.load(tmp_path / "p.yaml")
    assert prompts.values == (10, 10.5, 11, 11.5, 12)
    assert prompts.texts(10.0) == ["EF 10 %"]


def test_details_are_margins(model: Aligner, patients: Dataset) -> Any:
    given = {"side": "left", "class_side": "words", "split": "test", "prompts": PROMPTS, "bootstrap": 0}
    result = evaluate_multi_label(model, patients, **given)
    scores = detection_scores(
        PromptEmbeddings(model, "words", PROMPTS.sentences()), result.details["embedding"], PROMPTS
    )
    shift = scores - result.details["margins"]
    thresholds = [row["threshold"] for row in result.scores["classes"].values()]
    np.testing.assert_allclose(shift, np.tile(thresholds, (60, 1)), atol=1e-9)


def test_uncertainty_of_classes(model: Aligner, patients: Dataset) -> None:
    result = evaluate(
        model, patients, "multi-label", pair=("left", "words"), split="test", bootstrap=30, uncertainty=True
    )
    assert set(result.scores["uncertainty"]) == {"entropy", "margin", "random", "oracle"}
    wrong = (result.details["margins"] > 0) != result.details["truth"]
    assert result.scores["uncertainty"]["random"]["aurc"] == pytest.approx(wrong.mean())
    assert result.scores["filtering"]["entropy"]["100%"] == pytest.approx(result.scores["macro_balanced_accuracy"])
    given = {"side": "left", "class_side": "words", "split": "test", "prompts": PROMPTS, "bootstrap": 0}
    table = evaluate_multi_label(model, patients, **given, uncertainty=True).scores["uncertainty"]
    assert "score variance" in table  # one class has two sentences
    with pytest.raises(UserError, match="needs predictions of each class"):
        evaluate_multi_label(model, patients, **given | {"prompts": ClassPrompts({"cat": ("cat",)})},
                             uncertainty=True, tune_split="none")  # fmt: skip
