"""`mmalign.fit_variance`: distances by a loop, an unchanged model, a variance that follows the level, the command."""

import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mmalign
from mmalign.cli import main
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.model import Aligner
from mmalign.tuning.perturbed_pairs import ladder_of, perturbed_pairs
from mmalign.tuning.variance_regression import fit_variance_map

LEVELS = {"noise": (0.1, 0.5, 2.0), "nothing": (1.0, 2.0)}
Sample = NDArray[np.float32]


def perturb(sample: Sample, name: str, level: float, rng: np.random.Generator) -> Sample:
    """Noise that the last number shows, as a band power shows that of a recording."""
    if name == "nothing":
        return sample
    noise = (level * rng.standard_normal(8)).astype(np.float32)
    noise[7] = level
    return sample + noise


@pytest.fixture
def model(model: Aligner, monkeypatch: pytest.MonkeyPatch) -> Aligner:
    def perturbed(
        self: Any, sample: Sample, transform: Transform, name: str, level: float, rng: np.random.Generator
    ) -> Sample:
        return perturb(sample, name, level, rng)

    kind = type(model.modalities["left"])
    monkeypatch.setattr(kind, "perturbations", LEVELS, raising=False)
    monkeypatch.setattr(kind, "perturb", perturbed, raising=False)
    return model


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((60, 8)) * [1, 1, 1, 1, 1, 1, 1, 0]
    splits = ["train"] * 40 + ["test"] * 20
    return [
        {"id": f"r{i}", "left": (v / np.linalg.norm(v)).tolist(), "group": f"g{i // 2}", "split": split}
        for i, (v, split) in enumerate(zip(vectors, splits, strict=True))
    ]


@pytest.fixture
def data(paired: Callable[..., Dataset], rows: list[dict[str, Any]]) -> Dataset:
    return paired(rows, ("left",))


def test_pairs_equal_a_loop(model: Aligner, data: Dataset, rows: list[dict[str, Any]]) -> None:
    settings: dict[str, Any] = {"copies": 3, "samples": 100, "seed": 5, "batch_size": 7}
    pairs = perturbed_pairs(model, data.read("train"), "left", "train", LEVELS, **settings)
    expected = []
    for row in rows[:40]:
        sample = np.array(row["left"], np.float32)
        for copy in range(3):
            stream = int.from_bytes(hashlib.sha256(f"{row['id']}\0{0}\0{copy}".encode()).digest(), "big")
            rng = np.random.default_rng((5, stream))
            name = ["noise", "nothing"][rng.integers(2)]
            level = LEVELS[name][rng.integers(len(LEVELS[name]))]
            other = perturb(sample, name, level, rng)
            units = [one.astype(np.float64) / np.linalg.norm(one.astype(np.float64)) for one in (sample, other)]
            expected.append((name, level, ((units[0] - units[1]) ** 2).sum(), other, row["group"]))
    assert pairs.kinds == [(name, level) for name, level, *_ in expected]
    np.testing.assert_allclose(pairs.squared.numpy(), [one[2] for one in expected], atol=1e-6)
    np.testing.assert_allclose(pairs.features.numpy(), np.stack([one[3] for one in expected]), atol=1e-6)
    groups = [one[4] for one in expected]
    assert [pairs.groups[0] == g for g in pairs.groups] == [groups[0] == g for g in groups]


def test_a_subset_of_samples_keeps_its_perturbations(model: Aligner, data: Dataset) -> None:
    settings: dict[str, Any] = {"copies": 2, "seed": 5, "batch_size": 64}
    ladder = {"noise": LEVELS["noise"]}
    every, few = (
        perturbed_pairs(model, data.read("train"), "left", "train", ladder, samples=n, **settings) for n in (100, 10)
    )
    assert len(few.kinds) == 20
    known = {tuple(row): kind for row, kind in zip(every.features.tolist(), every.kinds, strict=True)}
    assert [known[tuple(row)] for row in few.features.tolist()] == few.kinds


def test_the_variance_is_the_regression_on_all_samples(model: Aligner, data: Dataset) -> None:
    fit = mmalign.fit_variance(model, data, tower="left", copies=4, seed=1, ridge=2.0)
    pairs = perturbed_pairs(
        model, data.read("train"), "left", "train", LEVELS, copies=4, samples=5000, seed=1, batch_size=64
    )
    expected = fit_variance_map(pairs.features, pairs.squared, 2.0)
    probe = np.random.default_rng(2).standard_normal((5, 8)).astype(np.float32)
    embedding = fit.model.encode("left", list(probe))
    torch.testing.assert_close(
        embedding.uncertainty, expected(torch.from_numpy(probe)).exp().float(), rtol=1e-4, atol=0
    )
    assert torch.equal(embedding.vector, model.encode("left", list(probe)).vector)
    assert model.encode("left", list(probe)).log_variance is None, "the model that was given is not changed"
    before = model.state_dict()
    after = {name: value for name, value in fit.model.state_dict().items() if not name.startswith("variances.")}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_unseen_samples_are_ordered_by_their_noise(model: Aligner, data: Dataset, rows: list[dict[str, Any]]) -> None:
    fit = mmalign.fit_variance(model, data, tower="left", copies=5, perturbations=["noise"])
    draw, values = np.random.default_rng(0), []
    for level in (0.0, 0.1, 0.5, 2.0):
        samples = [perturb(np.array(row["left"], np.float32), "noise", level, draw) for row in rows[40:]]
        values.append(fit.model.encode("left", samples).uncertainty)
    assert all(bool(a.median() < b.median()) for a, b in pairwise(values))
    assert fit.scores["spearman"] > 0.6
    assert fit.scores["log_likelihood_gain"] > 0.1
    assert {row["perturbation"] for row in fit.scores["levels"]} == {"noise"}


def test_held_out_groups_are_whole(model: Aligner, data: Dataset) -> None:
    """Twenty groups of two records with three copies each: a fifth of the groups is 4 x 6 samples."""
    fit = mmalign.fit_variance(model, data, tower="left", copies=3)
    assert (fit.scores["samples"], fit.scores["held_out"], fit.scores["features"]) == (120, 24, 8)
    assert sum(row["n"] for row in fit.scores["levels"]) == 24


def test_one_call_gives_one_fit_and_another_seed_another(model: Aligner, data: Dataset) -> None:
    first, second, third = (mmalign.fit_variance(model, data, tower="left", seed=seed).scores for seed in (0, 0, 1))
    assert first == second
    assert first != third


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tower": "lef"}, "'lef'"),
        ({"tower": "words"}, "'text' of the tower 'words' has no perturbations"),
        ({"tower": "left", "perturbations": ["nois"]}, "nois"),
        ({"tower": "left", "copies": 0}, "--copies"),
        ({"tower": "left", "samples": 0}, "--samples"),
        ({"tower": "left", "ridge": 0.0}, "--ridge"),
        ({"tower": "left", "samples": 1}, "two records or groups"),
        ({"tower": "left", "perturbations": ["nothing"]}, "only 0"),
    ],
)
def test_wrong_settings_are_named(model: Aligner, data: Dataset, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mmalign.fit_variance(model, data, **settings)


def test_ladder_of_chosen_perturbations(model: Aligner) -> None:
    assert ladder_of(model, "left", ["nothing"]) == {"nothing": (1.0, 2.0)}
    assert ladder_of(model, "left", ()) == LEVELS


def test_the_command_writes_a_bundle(
    model: Aligner, data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mmalign.save(model, tmp_path / "plain")
    flags = ["left", "--data.manifest", str(data.config.manifest), "--data.columns", "{left: left}"]
    files = ["-o", str(tmp_path / "fitted"), "--json", str(tmp_path / "fit.json")]
    assert main(["variance", str(tmp_path / "plain"), *flags, *files, "--copies", "2", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "noise" in printed
    assert "rank correlation" in printed
    fitted = mmalign.load(tmp_path / "fitted")
    assert fitted.provenance["fitted_variance"]["perturbations"] == ["noise", "nothing"]
    assert json.loads((tmp_path / "fit.json").read_text())["samples"] == 80
    probe = np.eye(8, dtype=np.float32)
    again = mmalign.fit_variance(model, data, tower="left", copies=2)
    assert torch.equal(
        fitted.encode("left", list(probe)).uncertainty, again.model.encode("left", list(probe)).uncertainty
    )
