"""The model card: front matter as hubs read it, every part from the run, and no text of others that becomes markup."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import mmalign
from mmalign.bundles import bundle
from mmalign.bundles.card import GENERATED, model_card
from mmalign.bundles.headline import headlines
from mmalign.data.dataset import Dataset
from mmalign.model import Aligner

PROVENANCE = {
    "recipe": "image-text/demo",
    "seed": 0,
    "source": "digits",
    "rows": {"train": 1438, "validation": 359},
    "rejected": 2,
    "split": {"validation": 0.2},
    "truncated": {"words": {"samples": 5, "total": 9, "limit": "64 pieces"}},
    "data": "ab12",
}


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


@pytest.fixture
def folder(model: Aligner, tmp_path: Path) -> Path:
    return mmalign.save(model, tmp_path / "bundle", provenance=PROVENANCE)


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_card_has_every_part(folder: Path) -> None:
    card = card_of(folder)
    parts = ["Intended use", "Model", "Preprocessing", "How to load", "Training data", "Results", "Limits", "Training"]
    assert [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")] == parts
    for said in ("Licence of the data: not declared", "rejected records: 2", "train 1438, validation 359",
                 "truncated words: 5 of 9, at 64 pieces", 'words = model.encode("words", [...])  #', "Not yet",
                 "intervals do not describe the choice of seeds", "left and right; left and words"):  # fmt: skip
        assert said in card
    known = front_matter(card)
    assert known["library_name"] == "mmalign"
    assert known["tags"] == ["multimodal", "vector", "text", "clip", "siglip"]
    assert "model-index" not in known


def test_weights_are_counted(folder: Path, model: Aligner) -> None:
    counts = json.loads((folder / "config.json").read_text())["parameters"]
    expected = sum(one.numel() for one in [*model.encoders["words"].parameters(), *model.heads["words"].parameters()])
    assert counts == {"left": 0, "right": 0, "words": expected}
    assert f"| words | text | transformer | linear | {expected:,} |" in card_of(folder)


def test_results_enter_the_card_and_hubs_read_them(
    folder: Path, paired: Callable[..., Dataset], random_rows: Callable[..., Any]
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = paired(random_rows(20))
    for split in ("test", "test", "all"):
        result = mmalign.evaluate(folder, data, pair=("left", "right"), split=split, bootstrap=50)
        result.append_to(folder)
    card = card_of(folder)
    column = result.scores["left_to_right"]
    low, high = column["mrr_ci"]
    line = f"| retrieval | all | left → right mrr | {column['mrr']:.3f} [{low:.3f}, {high:.3f}] | "
    assert f"{line}{column['chance']['mrr']:.3f} (chance) |" in card
    assert card.count("left → right mrr |") == 2  # of equal evaluations, the newest
    assert "optimistic" not in card  # there is a test split
    known = hub.ModelCard(card).data
    assert known.model_name == "image-text/demo"
    assert {one.dataset_split for one in known.eval_results} == {"test", "all"}
    assert {one.metric_type for one in known.eval_results} == {"hit@1", "hit@5", "hit@10", "mrr"}


def test_a_card_edited_by_hand_is_kept(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text("# Mine\n")
    bundle.update_card(folder)
    assert card_of(folder) == "# Mine\n"
    card.write_text(f"# Mine\n{GENERATED}\n")
    bundle.update_card(folder)
    assert "## Limits" in card_of(folder)


def test_markup_and_control_characters_in_the_card_are_escaped(model: Aligner, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> | a\n---\n## Mine\x1b[2J"
    folder = mmalign.save(model, tmp_path, provenance={**PROVENANCE, "licence": hostile, "source": hostile})
    card = card_of(folder)
    assert "<script>" not in card.partition("\n# ")[2]
    assert "\x1b" not in card
    assert "## Mine" not in [line.strip() for line in card.splitlines()]
    assert front_matter(card)["datasets"] == [hostile.replace("\n", "\\n").replace("\x1b", "\\x1b")]


@pytest.mark.parametrize(
    "results",
    [[1, None, {}], [{"task": "x", "provenance": {}, "scores": 3}], [{"task": [], "provenance": {"protocol": 1}}],
     [{"task": "retrieval", "provenance": {}, "scores": {"a": 1, "b": {"mrr": "x", "hit@1": None}}}]],
)  # fmt: skip
def test_card_omits_unusable_results(folder: Path, results: list[Any]) -> None:
    (folder / "results.json").write_text(json.dumps(results))
    bundle.update_card(folder)
    assert "## Limits" in card_of(folder)


def test_headline_metrics_include_their_baselines() -> None:
    regression = {"mae": 3.0, "mae_ci": [2.0, 4.0], "rows": {"model": {}, "training mean": {"mae": 9.0}}}
    (one,) = headlines({"task": "regression", "scores": regression})
    assert one == ("mae", 3.0, (2.0, 4.0), 9.0, "training mean")
    row = {"trained": 0.9, "random": 0.6, "gain": 0.3}
    probes = {f"10 % {name}": {"macro_auroc": value} for name, value in row.items()}
    (one,) = headlines({"task": "probe", "scores": {"probes": probes}})
    assert one == ("10 %: macro_auroc", 0.9, (), 0.6, "random weights")
    few = {"chance": 0.2, "accuracy": {"5-way 1-shot, linear head": {"accuracy": 0.7}}}
    assert headlines({"task": "few-shot", "scores": few})[0].baseline == 0.2


def test_card_of_a_bundle_without_provenance(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert "## Limits" in model_card({"model": config["model"], "provenance": {}})
