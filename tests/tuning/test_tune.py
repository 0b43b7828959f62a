"""Prompt tuning: exact without context, frozen weights, the loss by hand, and a bundle that others use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import mmalign
from mmalign.cli import main
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.model import Aligner
from mmalign.tuning.comparison import HAND, LEARNT, PROBE, Labelled, accuracy_table, correct_prompts, templates_of
from mmalign.tuning.learn import TuningConfig, learn, prompted

PAIR = ("left", "words")
PROMPTS = Prompts(("the picture of {}", "a {}"), {"red": ("red disc", "red"), "blue": ("blue disc",),
                                                  "green": ("green square",), "black": ("black",)})  # fmt: skip
NAMES = [*PROMPTS.classes]


@pytest.fixture
def data(paired: Callable[..., Dataset], unit: Callable[..., list[float]]) -> Dataset:
    """Four classes of vectors around four directions, ten records each; a half is for training."""
    noise = np.random.default_rng(0).normal(0, 0.5, (40, 8))
    rows = []
    for number in range(40):
        vector = unit(*(np.eye(8)[number % 4] + noise[number]))
        split = "train" if number < 20 else "validation"
        rows.append({"id": f"r{number}", "left": vector, "label": NAMES[number % 4], "split": split})
    return paired(rows, ("left",))


def tuned_by(model: Aligner, data: Dataset, **settings: Any) -> mmalign.Tuned:
    given = {"shots": 3, "pair": PAIR, "prompts": PROMPTS, "bootstrap": 0, "epochs": 3, "new_classes": False} | settings
    return mmalign.tune(model, data, **given)


def test_without_context_it_is_the_zero_shot_classification(model: Aligner, data: Dataset) -> None:
    tuned = tuned_by(model, data, context=0, prompts=Prompts(("{}",), PROMPTS.classes), new_classes=True)
    table = tuned.result.scores["accuracy"]
    for name in ("all", "base", "new", "harmonic"):
        assert table[LEARNT][name] == table[HAND][name]
    expected, same = (
        mmalign.evaluate(one, data, "zero-shot", pair=PAIR, prompts=Prompts(("{}",), PROMPTS.classes), bootstrap=0)
        for one in (model, tuned.model)
    )
    assert torch.equal(same.details["probabilities"], expected.details["probabilities"])
    assert table[LEARNT]["all"] == pytest.approx(expected.scores["top1"])


def test_only_the_context_changes(model: Aligner, data: Dataset) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = tuned_by(model, data, lr=0.5)
    after = {name.replace(".inner.", "."): value for name, value in tuned.model.state_dict().items()}
    context = after.pop("encoders.words.context")
    assert context.shape == (1, 4, 16)
    assert after.keys() == before.keys() == model.state_dict().keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
        assert torch.equal(model.state_dict()[name], value), name
    fresh = prompted(model, "words", TuningConfig(), PROMPTS.templates)
    assert not torch.equal(context, fresh.encoders["words"].get_parameter("context"))


def test_context_from_a_template_classifies_like_the_template(model: Aligner, data: Dataset) -> None:
    one = Prompts(("a {}",), PROMPTS.classes)
    start = prompted(model, "words", TuningConfig(context=1, start="templates"), one.templates)
    vectors = torch.nn.functional.normalize(torch.randn(50, 8), dim=1)
    held = Labelled(vectors, torch.arange(50) % 4, torch.arange(50))
    bare = Prompts(("{}",), PROMPTS.classes)
    by_start = correct_prompts(start, PAIR, held, templates_of(bare, NAMES))
    by_hand = correct_prompts(model, PAIR, held, templates_of(one, NAMES))
    assert by_start.tolist() == by_hand.tolist()
    torch.testing.assert_close(start.encode("words", ["red disc"]).vector, model.encode("words", ["a red disc"]).vector)


def test_contexts_start_from_the_words_of_the_templates() -> None:
    templates = ("{}", "a photo of {}", "{} seen from above", "there is {} here")
    assert TuningConfig().starts(templates) == [""]
    assert TuningConfig(start="templates").starts(templates) == ["a photo of"]
    assert TuningConfig(start="templates", experts=2).starts(templates) == ["", "a photo of"]
    assert TuningConfig(start="templates", experts=3).starts(templates) == ["there is", "a photo of", ""]
    assert TuningConfig(start="templates", experts=2).starts(templates[1:2]) == ["a photo of"] * 2
    assert TuningConfig(start="one of", experts=2).starts(templates) == ["one of"] * 2


@pytest.mark.parametrize(("experts", "weight"), [(1, None), (1, 2.0), (2, None)])
def test_the_loss_by_hand(model: Aligner, experts: int, weight: float | None) -> None:
    """The first epoch is one step: its loss is that of the context before learning."""
    features, labels = F.normalize(torch.randn(6, 8), dim=1), torch.tensor([0, 1, 2, 3, 3, 0])
    config = TuningConfig(2, "random", experts, weight, epochs=1, batch_size=6)
    tuned = prompted(model, "words", config, PROMPTS.templates)
    scale = model.logit_scale(*PAIR)

    def means(of: Aligner, texts: list[list[str]], **expert: int) -> torch.Tensor:
        with torch.no_grad():
            transform = of.transforms["words"]
            sets = [
                of.embed("words", {**transform.collate([transform.item(text) for text in some]), **expert}).vector
                for some in texts
            ]
        return torch.stack([F.normalize(one.mean(0), dim=0) for one in sets])

    bare = templates_of(Prompts(("{}",), PROMPTS.classes), NAMES)
    expected = F.cross_entropy(scale * features @ means(tuned, bare).T, labels)
    factor = {None: 5.0 * (experts > 1)}.get(weight, weight)
    for expert in range(experts):
        group = templates_of(Prompts(PROMPTS.templates[expert::experts], PROMPTS.classes), NAMES)
        logits = scale * means(tuned, bare, expert=expert) @ means(model, group).T
        expected = expected + factor * F.cross_entropy(logits, torch.arange(4)) / experts
    losses = learn(tuned, model, PAIR, features, labels, config, PROMPTS, NAMES)
    assert losses == [pytest.approx(float(expected), rel=1e-5)]


def test_tuned_prompts_lower_the_loss_and_save_a_bundle(model: Aligner, data: Dataset, tmp_path: Path) -> None:
    tuned = tuned_by(model, data, shots=5, epochs=40, lr=0.5, out=tmp_path / "tuned", new_classes=True, bootstrap=50)
    losses = tuned.result.details["losses"]
    assert losses["all"][-1] < 0.7 * losses["all"][0]
    assert {*losses} == {"all", "base"}
    table = tuned.result.scores["accuracy"]
    assert table[LEARNT]["minus_templates"] == pytest.approx(table[LEARNT]["all"] - table[HAND]["all"])
    assert {*table[PROBE]} == {"all", "all_ci", "base", "base_ci", "minus_templates", "minus_templates_ci"}
    json.dumps(tuned.result.to_json(), allow_nan=False)
    assert tuned.model.path is None
    loaded = mmalign.load(tmp_path / "tuned")
    assert loaded.provenance["tuned"]["shots"] == 5
    bare = Prompts(("{}",), PROMPTS.classes)
    zero_shot = mmalign.evaluate(loaded, data, "zero-shot", pair=PAIR, prompts=bare, bootstrap=0)
    assert zero_shot.scores["top1"] == table[LEARNT]["all"]
    held = data.read("validation").split("validation").records
    samples = [record.values["left"][0] for record in held]
    found = mmalign.classify(loaded, samples, prompts=bare, pair=PAIR)
    right = [name == record.labels[0] for name, record in zip(found.predictions, held, strict=True)]
    assert np.mean(right) == table[LEARNT]["all"]


def test_accuracies_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    correct = {
        HAND: {
            "all": np.array([1, 0, 0, 0, 1], bool),
            "base": np.array([1, 1, 1, 0], bool),
            "new": np.array([0], bool),
        },
        LEARNT: {"all": np.ones(5, bool), "base": np.array([1, 1, 0, 0], bool), "new": np.array([1], bool)},
        PROBE: {"all": np.zeros(5, bool)},
    }
    outcomes = {name: {part: np.array(one, bool) for part, one in of.items()} for name, of in correct.items()}
    table = accuracy_table(outcomes, labels, 2, np.arange(5), resamples=0, seed=0)
    assert table[HAND] == {"all": 0.4, "base": 0.75, "new": 0.0, "harmonic": 0.0}
    assert table[LEARNT] == {
        "all": 1.0, "base": 0.5, "new": 1.0, "harmonic": pytest.approx(2 / 3), "minus_templates": pytest.approx(0.6),
    }  # fmt: skip
    assert table[PROBE] == {"all": 0.0, "minus_templates": pytest.approx(-0.4)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": 0}, "--shots: expected at least 1, got 0"),
        ({"context": -1}, "--context: expected at least 0"),
        ({"lr": 0.0}, "--lr: expected a learning rate above 0"),
        ({"text_weight": -1.0}, "--text_weight"),
        ({"pair": ("left", "right")}, "tune needs a tower that reads strings"),
        ({"prompts": Prompts(("{}",), {"red": ("red",), "blue": ("blue",)})}, "a class 'black'"),
        ({"prompts": Prompts(("{}",), {**PROMPTS.classes, "pink": ("pink",)})}, "class 'pink' has no record"),
        ({"lr": 1e38, "start": "random"}, "the loss is nan; lower --lr"),
    ],
)
def test_models_and_data_without_prompts_or_shots_are_errors(
    model: Aligner, data: Dataset, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        tuned_by(model, data, **settings)


def test_scores_of_tokens_are_refused(data: Dataset) -> None:
    vector = mmalign.TowerConfig(modality="vector", args={"width": 8})
    towers = {"left": vector, "words": mmalign.TowerConfig(modality="text", args={"width": 8, "depth": 1, "heads": 2})}
    transforms = mmalign.fit_transforms(towers, {"left": [], "words": ["red", "blue"]})
    model = Aligner(towers, [mmalign.PairConfig(*PAIR, "late_interaction")], 4, transforms)
    with pytest.raises(UserError, match="the score of 'left' and 'words' reads more than vectors"):
        tuned_by(model, data)


def test_the_command_writes_bundle_and_result(
    model: Aligner, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.yaml").write_text(
        "templates: ['a {}']\nclasses: {red: red, blue: blue, green: green, black: black}\n"
    )
    bundle = mmalign.save(model, tmp_path / "bundle")
    arguments = [
        "tune", str(bundle), "--shots", "1", "-o", str(tmp_path / "tuned"), "--pair=[left, words]", "--epochs=1",
        f"--prompts={tmp_path / 'prompts.yaml'}", "--bootstrap=0", f"--json={tmp_path / 'result.json'}",
        f"--data.manifest={data.config.manifest}", "--data.columns={left: left}",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "learnt prompts" in capsys.readouterr().out
    assert json.loads((tmp_path / "result.json").read_text())["scores"]["training_samples"] == 4
    assert mmalign.load(tmp_path / "tuned").config()["towers"]["words"]["encoder"] == "prompted"
