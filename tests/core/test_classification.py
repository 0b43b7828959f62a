"""`mmalign classify`: equal to the zero-shot task on the same samples; files that cannot be read; folders; strings."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmalign
from mmalign.cli import main
from mmalign.data.dataset import Dataset
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.model import Aligner

NAMES = ["red disc", "blue disc", "two cats"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An untrained image-text bundle, and a folder of pictures of which one is broken."""
    folder = tmp_path_factory.mktemp("classify")
    torch.manual_seed(0)
    towers = {
        "image": mmalign.TowerConfig(encoder="convnet", args={"width": 4}, transform={"size": 16}),
        "text": mmalign.TowerConfig(args={"width": 16, "depth": 1, "heads": 2}),
    }
    transforms = mmalign.fit_transforms(towers, {"image": [], "text": NAMES * 9})
    mmalign.save(mmalign.Aligner(towers, [mmalign.PairConfig("image", "text")], 8, transforms), folder / "bundle")
    (folder / "pictures" / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("c.png", "a.png", "below/b.png"):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / "pictures" / name)
    (folder / "pictures" / "broken.png").write_bytes(b"no picture")
    (folder / "pictures" / ".hidden").write_bytes(b"")
    return folder / "bundle", folder / "pictures"


def test_classes_equal_the_zero_shot_task(model: Aligner, paired: Callable[..., Dataset]) -> None:
    vectors = torch.randn(7, 8, generator=torch.Generator().manual_seed(1))
    prompts = Prompts(("a {}", "the picture of a {}"), {name: (name,) for name in NAMES})
    found = mmalign.classify(model, list(vectors.numpy()), prompts=prompts, pair=("left", "words"), batch_size=3)
    table = [{"left": row, "label": NAMES[k % 3]} for k, row in enumerate(vectors.tolist())]
    result = mmalign.evaluate(
        model, paired(table, ("left",)), "zero-shot", pair=("left", "words"), split="test", bootstrap=0, prompts=prompts
    )
    assert found.predictions == result.rows["prediction"]
    torch.testing.assert_close(found.probabilities, result.details["probabilities"])
    assert found.problems == {}


def test_a_folder_with_a_broken_file(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, folder = pictures
    out = tmp_path / "classes.csv"
    assert main(["classify", str(bundle), str(folder), "--classes", *NAMES, "--out", str(out)]) == 1
    assert "cannot be read" in capsys.readouterr().out
    with out.open() as file:
        rows = list(csv.DictReader(file))
    names = [Path(row["sample"]).name for row in rows]
    assert names == ["a.png", "broken.png", "c.png", "b.png"]
    for row in rows:
        each = [row[f"p/{name}"] for name in NAMES]
        if row["sample"].endswith("broken.png"):
            assert row["problem"].startswith("expected")
            assert {row["prediction"], row["probability"], row["entropy"], *each} == {""}
            continue
        chances = np.array(each, dtype=float)
        assert row["prediction"] == NAMES[int(chances.argmax())]
        assert float(row["probability"]) == chances.max()
        assert chances.sum() == pytest.approx(1, abs=1e-5)
        assert float(row["entropy"]) == pytest.approx(-(chances * np.log(chances)).sum(), abs=1e-4)
        assert row["problem"] == ""


def test_classes_of_a_prompts_file(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, folder = pictures
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("templates: ['a {}']\nclasses: {disc: [red disc, blue disc], cats: two cats}\n")
    found = mmalign.classify(bundle, [folder / "a.png"], prompts=prompts)
    assert list(found.classes) == ["disc", "cats"]
    assert list(mmalign.classify(bundle, [folder / "a.png"], ["cats", "disc"], prompts=prompts).classes) == [
        "cats",
        "disc",
    ]
    with pytest.raises(mmalign.UserError, match="dog"):
        mmalign.classify(bundle, [folder / "a.png"], ["cats", "dog"], prompts=prompts)


def test_strings_are_samples_of_a_text_tower(pictures: tuple[Path, Path]) -> None:
    """Where both towers of a pair read strings, the first is classified by prompts of the second."""
    torch.manual_seed(0)
    text: dict[str, Any] = {"modality": "text", "args": {"width": 16, "depth": 1, "heads": 2}}
    towers = {"name": mmalign.TowerConfig(**text), "sentence": mmalign.TowerConfig(**text)}
    transforms = mmalign.fit_transforms(towers, {"name": NAMES * 9, "sentence": NAMES * 9})
    model = mmalign.Aligner(towers, [mmalign.PairConfig("name", "sentence")], 8, transforms)
    found = mmalign.classify(model, ["a cat", "."], NAMES)
    assert len(found.predictions) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png"], "at least two classes, got 0"),
        (["a.png", "--classes", "one"], "at least two classes, got 1"),
        (["empty", "--classes", "a", "b"], "at least one sample"),
        (["a.png", "--prompts", "missing.yaml"], "missing.yaml"),
    ],
)
def test_invalid_arguments_are_errors(
    arguments: list[str],
    message: str,
    pictures: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["classify", str(pictures[0]), *arguments]) == 2
    assert message in capsys.readouterr().err
