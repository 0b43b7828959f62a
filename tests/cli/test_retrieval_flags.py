"""The flags of retrieval as a user gives them: gallery, list lengths, ties, seen groups, re-ranking, ensembles."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import mmalign
from mmalign import registry
from mmalign.cli import main
from mmalign.data.sources.base import Record
from mmalign.data.sources.manifest import ManifestSource
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig

WIDTH = 4


class Listing(ManifestSource):
    """A manifest whose right sides are also listed, with as many others."""

    def corpus(self, tower: str) -> Sequence[Record] | None:
        if tower != "right":
            return None
        rows = [Record(row.id, f"list:{row.id}", {tower: row.values[tower]}) for row in self.records()]
        others = [Record(f"other {row.id}", f"list:{row.id}", {tower: row.values["left"]}) for row in self.records()]
        return others + rows


@pytest.fixture
def bundles(tmp_path: Path) -> list[str]:
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        towers = {side: TowerConfig(modality="vector", args={"width": WIDTH}) for side in ("left", "right")}
        transforms = fit_transforms(towers, {side: [] for side in towers})
        model = Aligner(towers, [PairConfig("left", "right")], 3, transforms)
        made.append(str(mmalign.save(model, tmp_path / f"bundle{seed}")))
    return made


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """Flags of 20 pairs, every second one of a group that training has."""
    numbers = np.random.default_rng(0).standard_normal((20, 2, WIDTH)).astype(np.float32)
    lines = ["id\tleft\tright\tgroup\tsplit"]
    for row, (left, right) in enumerate(numbers):
        np.save(tmp_path / f"l{row}.npy", left)
        np.save(tmp_path / f"r{row}.npy", right)
        split, group = ("test", row) if row % 2 else ("train" if row < 4 else "test", row % 4)
        lines.append(f"{row}\tl{row}.npy\tr{row}.npy\tg{group}\t{split}")
    (tmp_path / "rows.tsv").write_text("\n".join(lines) + "\n")
    return ["--data.manifest", str(tmp_path / "rows.tsv"), "--data.columns", "{left: left, right: right}",
            "--split", "test", "--bootstrap", "0"]  # fmt: skip


def test_every_flag(
    bundles: list[str], table: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: Listing if group == "sources" else load(group, name))
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "out.json"
    flags = [
        "--gallery",
        "corpus",
        "--ks",
        "1",
        "7",
        "--ties",
        "middle",
        "--exclude_seen_groups",
        "true",
        "--rerank",
        "5",
    ]
    assert main(["evaluate", bundles[0], *table, *flags, "--ensemble", bundles[1], "--json", str(out)]) == 0
    said, result = capsys.readouterr().out, json.loads(out.read_text())
    forth, back = result["scores"]["left_to_right"], result["scores"]["right_to_left"]
    assert (forth["n"], forth["gallery"], forth["seen_in_training"], forth["no_relevant_item"]) == (10, 40, 8, 0)
    assert (back["n"], back["gallery"]) == (10, 18)
    assert {"hit@1", "hit@7"} <= set(forth)
    assert "hit@5" not in forth
    kept = result["provenance"]
    assert [one["set"] for one in kept["gallery"].values()] == ["corpus", "split"]
    assert [Path(one["path"]).name for one in kept["bundles"]] == ["bundle0", "bundle1"]
    assert {"rerank", "ensemble", "exclude_seen_groups"} <= set(kept["protocol"])
    assert "left -> right: gallery of 40 items, the corpus" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gallery", "corpus"], "the source 'manifest' lists no corpus of left or right"),
        (["--gallery", "all"], "--gallery: no gallery called 'all'"),
        (["--ties", "best"], "--ties: no rule called 'best'"),
        (["--ks", "0"], "--ks: expected different lengths of at least 1"),
        (["--rerank", "-3"], "--rerank: expected the number of gallery items"),
        (["--ensemble", "nowhere"], "no bundle at nowhere"),
        (
            ["--task", "zero-shot", "--rerank", "3"],
            "the task 'zero-shot' does not take this setting",
        ),
    ],
)
def test_invalid_arguments_are_errors(
    bundles: list[str], table: list[str], flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", bundles[0], *table, *flags]) == 2
    assert message in capsys.readouterr().err
