"""Sentences of a zero-shot task are encoded once, whatever is read from their embeddings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts, ValuePrompts
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from tests.evaluation.running import evaluate_multi_label, evaluate_regression, evaluate_zero_shot

SENTENCES = ("a red disc", "a blue disc", "two cats", "no cats")


@pytest.fixture(scope="module")
def probabilistic() -> Aligner:
    towers = {
        "left": TowerConfig(modality="vector", args={"width": 8}, head="identity"),
        "words": TowerConfig(modality="text", args={"width": 16, "depth": 1, "heads": 2}),
    }
    transforms = fit_transforms(towers, {"left": [], "words": [*SENTENCES] * 20})
    return Aligner(towers, [PairConfig("left", "words", "pcmepp")], 8, transforms)


@pytest.fixture
def encoded(probabilistic: Aligner, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The sentences of every call of `encode`."""
    calls: list[list[str]] = []
    encode = probabilistic.encode

    def counted(name: str, items: Any, **options: Any) -> Any:
        calls.append(list(items))
        return encode(name, items, **options)

    monkeypatch.setattr(probabilistic, "encode", counted)
    return calls


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"left": rng.standard_normal(8).tolist(), "label": "disc" if i % 2 else "cat", "x": float(i),
         "split": "test" if i % 3 else "validation"}
        for i in range(24)
    ]  # fmt: skip


def test_classification_encodes_each_sentence_once(
    probabilistic: Aligner, paired: Callable[..., Any], rows: Any, encoded: list[list[str]]
) -> None:
    prompts = Prompts(classes={"disc": SENTENCES[:2], "cat": (*SENTENCES[2:], SENTENCES[0])})
    options = {"side": "left", "class_side": "words", "split": "test", "bootstrap": 0}
    evaluate_zero_shot(probabilistic, paired(rows, ("left",)), prompts=prompts, uncertainty=True, **options)
    assert encoded == [list(SENTENCES)]


def test_multi_label_encodes_each_sentence_once(
    probabilistic: Aligner, paired: Callable[..., Any], rows: Any, encoded: list[list[str]]
) -> None:
    """Also with the selection by uncertainty, thresholds of another split, and the variance over sentences."""
    prompts = ClassPrompts({"disc": SENTENCES[:2], "cat": SENTENCES[2:3]}, {"cat": SENTENCES[3:]})
    options = {"side": "left", "class_side": "words", "split": "test", "bootstrap": 0, "prompt_fraction": 0.9}
    evaluate_multi_label(probabilistic, paired(rows, ("left",)), prompts=prompts, uncertainty=True, **options)
    assert encoded == [list(SENTENCES)]


def test_regression_encodes_each_sentence_once(
    probabilistic: Aligner, paired: Callable[..., Any], rows: Any, encoded: list[list[str]]
) -> None:
    prompts = ValuePrompts((1.0, 5.0, 20.0), ("{value} discs", "{value} cats"))
    data = paired(rows, ("left",))
    for record, row in zip(data.records, rows, strict=True):
        object.__setattr__(record, "targets", {"x": row["x"]})
    options = {"side": "left", "class_side": "words", "split": "test", "bootstrap": 0, "prompt_fraction": 0.5}
    evaluate_regression(probabilistic, data, target="x", prompts=prompts, threshold=9.0, uncertainty=True, **options)
    assert encoded == [prompts.sentences()]
    assert len(encoded[0]) == 6
