"""A model that says its uncertainty: where each task uses it, and which prompts are uncertain."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts, ValuePrompts, least_uncertain_texts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from tests.evaluation.running import evaluate_regression, evaluate_zero_shot

Make = Callable[..., Dataset]
TEXTS = {"disc": ("a red disc", "a blue disc", "two cats"), "cat": ("something black",)}


@pytest.fixture(scope="module")
def unsure() -> Aligner:
    torch.manual_seed(0)
    towers = {
        "left": TowerConfig(modality="vector", args={"width": 8}, head="identity"),
        "words": TowerConfig(modality="text", args={"width": 16, "depth": 1, "heads": 2}),
    }
    words = [text for texts in TEXTS.values() for text in texts]
    return Aligner(
        towers, [PairConfig("left", "words", "pcmepp")], 8, fit_transforms(towers, {"left": [], "words": words * 20})
    )


def test_zero_shot_reports_the_variance(unsure: Aligner, paired: Make) -> None:
    rng = np.random.default_rng(0)
    rows = [{"left": rng.standard_normal(8).tolist(), "label": name} for name in ("disc", "cat") * 20]
    data = paired(rows, ("left",))
    result = evaluate_zero_shot(
        unsure, data, side="left", class_side="words", split="test", bootstrap=20, uncertainty=True
    )
    table = result.scores["uncertainty"]
    assert set(table) == {"variance", "entropy", "margin", "random", "oracle"}
    assert table["random"]["aurc"] == pytest.approx(1 - result.scores["top1"])
    assert result.scores["filtering"]["variance"]["100%"] == pytest.approx(result.scores["top1"])
    several = paired([row | {"label": ["disc", "cat"]} for row in rows], ("left",))
    with pytest.raises(UserError, match="use --task multi-label"):
        evaluate_zero_shot(unsure, several, side="left", split="test", bootstrap=0, uncertainty=True)


def test_uncertain_prompts_go_first(unsure: Aligner) -> None:
    uncertainty = unsure.encode("words", list(TEXTS["disc"])).uncertainty
    sentences = PromptEmbeddings(unsure, "words", ClassPrompts(TEXTS).sentences())
    keep = sorted(uncertainty.argsort()[:2].tolist())
    assert least_uncertain_texts(sentences, TEXTS, 0.5)["disc"] == tuple(TEXTS["disc"][place] for place in keep)
    assert least_uncertain_texts(sentences, TEXTS, 0.01)["cat"] == TEXTS["cat"]  # never none
    assert ClassPrompts(TEXTS).least_uncertain(sentences, 1.0) == ClassPrompts(TEXTS)
    with pytest.raises(UserError, match="--prompt_fraction"):
        least_uncertain_texts(sentences, TEXTS, 0.0)


def test_uncertain_templates_go_first(unsure: Aligner, paired: Make) -> None:
    prompts = ValuePrompts((1.0, 2.0, 3.0), ("a red {value}", "{value} cats", "something {value} black"))
    uncertainty = [unsure.encode("words", [t.replace("{value}", f"{v:g}") for v in prompts.values]).uncertainty.mean()
             for t in prompts.templates]  # fmt: skip
    sentences = PromptEmbeddings(unsure, "words", prompts.sentences())
    assert prompts.least_uncertain(sentences, 0.3).templates == (prompts.templates[int(np.argmin(uncertainty))],)
    rows = [{"left": np.random.default_rng(i).standard_normal(8).tolist()} for i in range(4)]
    data = paired(rows, ("left",))
    for value, record in enumerate(data.records):
        object.__setattr__(record, "targets", {"x": float(value)})
    given = {"side": "left", "class_side": "words", "split": "test", "target": "x", "bootstrap": 0}
    result = evaluate_regression(unsure, data, **given, prompts=prompts, prompt_fraction=0.3, uncertainty=True)
    assert result.provenance["protocol"]["templates"] == "1"
    assert "variance" in result.scores["uncertainty"]
    assert "score variance" not in result.scores["uncertainty"]  # one template has none
    assert "training mean" not in result.scores["rows"]  # there are no training rows
