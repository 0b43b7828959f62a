"""The start in closed form: against the eigenvalues of its definition, and through a model as a user starts it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.sparse import csr_array

import mmalign
from mmalign.errors import UserError
from mmalign.training.run import train
from mmalign.training.starting.cca import truncated_svd as directions
from mmalign.training.starting.cca.cca import canonical_maps, shared_maps

RIDGE = (0.7, 2.0)


def rows(n: int = 30, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of five common causes, with noise of their own."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(n, 5))
    x = causes @ rng.normal(size=(5, 8)) + 0.3 * rng.normal(size=(n, 8))
    y = causes @ rng.normal(size=(5, 6)) + 0.3 * rng.normal(size=(n, 6))
    return torch.from_numpy(x), torch.from_numpy(y)


def scaled(values: torch.Tensor) -> np.ndarray:
    x = values.double().numpy()
    return x / np.sqrt((x**2).sum() / len(x))


def power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**exponent) @ vectors.T


def by_definition(a: torch.Tensor, b: torch.Tensor, ridge: tuple[float, float], p: float) -> np.ndarray:
    """The table of inner products of mapped rows, in the space of the features; signs and rotations cancel in it."""
    x, y = scaled(a), scaled(b)
    left = power(x.T @ x + ridge[0] * np.eye(x.shape[1]), -0.5)
    right = power(y.T @ y + ridge[1] * np.eye(y.shape[1]), -0.5)
    u, s, v = np.linalg.svd(left @ x.T @ y @ right, full_matrices=False)
    return (x @ left @ u * s**p) @ (y @ right @ v.T * s**p).T


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_equals_the_definition_in_the_space_of_the_features(exponent: float) -> None:
    a, b = rows()
    left, right = canonical_maps(a, b, 6, ridge=RIDGE, power=exponent)
    got = torch.from_numpy(scaled(a)).float() @ left @ (torch.from_numpy(scaled(b)).float() @ right).T
    torch.testing.assert_close(got.double(), torch.from_numpy(by_definition(a, b, RIDGE, exponent)), atol=1e-5, rtol=0)


def test_fewer_directions_are_the_first_ones() -> None:
    a, b = rows()
    many, few = canonical_maps(a, b, 6, ridge=RIDGE), canonical_maps(a, b, 2, ridge=RIDGE)
    for wide, narrow in zip(many, few, strict=True):
        torch.testing.assert_close(wide[:, :2], narrow)


def test_sparse_rows_and_more_rows_than_are_taken_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rows()
    dense = canonical_maps(a, b, 4, ridge=RIDGE)
    sparse = canonical_maps(csr_array(a.numpy()), b, 4, ridge=RIDGE)
    monkeypatch.setattr(directions, "EXACT", 20)
    drawn = canonical_maps(a, b, 4, ridge=RIDGE)
    for found in (sparse, drawn):
        table = [
            x @ left @ (y @ right).T for (left, right), (x, y) in ((m, (a.float(), b.float())) for m in (dense, found))
        ]
        torch.testing.assert_close(*table, atol=2e-3, rtol=1e-3)


def test_the_scale_of_the_features_does_not_matter() -> None:
    a, b = rows()
    once, twice = canonical_maps(a, b, 4, ridge=RIDGE), canonical_maps(100 * a, b, 4, ridge=RIDGE)
    torch.testing.assert_close(once[0], twice[0])


def three(n: int = 40) -> tuple[list[torch.Tensor], np.ndarray]:
    """Three views of common causes, of which a third of the rows lack one, and a few all but one."""
    rng = np.random.default_rng(1)
    causes = rng.normal(size=(n, 4))
    sides = [torch.from_numpy(causes @ rng.normal(size=(4, f)) + 0.3 * rng.normal(size=(n, f))) for f in (7, 5, 6)]
    present = np.ones((n, 3), bool)
    present[np.arange(n), rng.integers(3, size=n)] = rng.random(n) > 0.33
    present[:3] = np.eye(3, dtype=bool)
    return sides, present


def shared_by_definition(sides: list[torch.Tensor], present: np.ndarray, ridge: list[float], p: float) -> list[Any]:
    """Mapped rows of each side, from the generalised eigenvalue problem between the rows."""
    kept = present.sum(1) > 1
    n, total, solves = kept.sum(), 0, []
    for place, side in enumerate(sides):
        there = present[kept, place]
        x = side.numpy()[kept] * there[:, None]
        x = x / np.sqrt((x**2).sum() / there.sum())
        solve = np.linalg.inv(x.T @ x + ridge[place] * np.eye(x.shape[1])) @ x.T
        total = total + x @ solve
        solves.append((x, solve))
    counts = np.diag(present[kept].sum(1).astype(float))
    mu, g = eigh(total, counts)
    mean = np.trace(counts) / n
    rho = ((mean * mu - 1) / (mean - 1)).clip(min=0) ** p
    return [x @ solve @ g[:, ::-1][:, :4] * rho[::-1][:4] for x, solve in solves]


@pytest.mark.parametrize("n", [40, 14])  # more rows than features of all sides, and fewer
@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_several_towers_equal_the_definition_between_rows(exponent: float, n: int) -> None:
    sides, present = three(n)
    ridge = [0.5, 1.0, 2.0]
    maps = shared_maps(sides, present, 4, ridge=ridge, power=exponent)
    expected = shared_by_definition(sides, present, ridge, exponent)
    kept = present.sum(1) > 1
    got = []
    for place, (side, weight) in enumerate(zip(sides, maps, strict=True)):
        x = side.numpy() * present[:, [place]]
        x = x[kept] / np.sqrt((x[kept] ** 2).sum() / present[kept, place].sum())
        got.append(x @ weight.double().numpy())
    for one in range(3):
        for other in range(3):
            torch.testing.assert_close(
                torch.from_numpy(got[one] @ got[other].T),
                torch.from_numpy(expected[one] @ expected[other].T),
                atol=1e-5,
                rtol=0,
            )


def test_values_of_missing_rows_are_ignored() -> None:
    sides, present = three()
    spoilt = [side.clone() for side in sides]
    for place, side in enumerate(spoilt):
        side[torch.from_numpy(~present[:, place])] = 1e3
    ridge = [1.0, 1.0, 1.0]
    for clean, dirty in zip(
        shared_maps(sides, present, 4, ridge=ridge), shared_maps(spoilt, present, 4, ridge=ridge), strict=True
    ):
        torch.testing.assert_close(clean, dirty)


def test_towers_with_too_few_common_rows_are_errors() -> None:
    sides, present = three()
    with pytest.raises(UserError, match="view 2 shares 0 rows"):
        shared_maps(sides, present & np.array([True, False, True]), 4, ridge=[1.0, 1.0, 1.0])
    with pytest.raises(UserError, match="ridge of at least 0 for each of 3"):
        shared_maps(sides, present, 4, ridge=[1.0, 1.0])


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), "3 and 4"),
        (torch.ones(1, 2), torch.ones(1, 2), "two or more"),
        (torch.full((3, 2), torch.nan), torch.ones(3, 2), "first view.*NaN"),
        (torch.ones(3, 2), torch.zeros(3, 2), "second view has only zero features"),
    ],
)
def test_invalid_rows_and_ridge_are_errors(a: torch.Tensor, b: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        canonical_maps(a, b, 2)
    with pytest.raises(UserError, match="at least 0"):
        canonical_maps(torch.eye(3), torch.eye(3), 2, ridge=(-1.0, 0.0))


def table(folder: Path) -> Path:
    """Forty pairs of vectors and of molecules with texts, eight of them held out."""
    path, rng = folder / "pairs.jsonl", np.random.default_rng(0)
    kinds = ["an alcohol", "an acid", "an amine", "a chloride"]
    ends = ["O", "C(=O)O", "N", "Cl"]
    lines = []
    for place in range(48):
        kind, length = place % 4, 1 + place % 6
        cause = rng.normal(size=3)
        row: dict[str, Any] = {
            "left": [*cause.round(4), *rng.normal(size=2).round(4)], "right": [*(cause[::-1] * 2).round(4)],
            "molecule": "C" * length + ends[kind], "text": f"{kinds[kind]} with {length} carbons",
            "split": "validation" if place >= 40 else "train",
        }  # fmt: skip
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def flags(folder: Path, **more: str) -> list[str]:
    given = {"trainer.max_epochs": "0", "data.source": "manifest", "data.manifest": str(table(folder)), **more}
    return [f"--{name}={value}" for name, value in given.items()] + [f"--out={folder / 'run'}"]


def test_heads_of_other_encoders_are_initialised(tmp_path: Path) -> None:
    """No step is taken: what is scored is the closed form of what the encoders gave."""
    tower = "{modality: vector, encoder: mlp, args: {hidden: 16}}"
    towers = f"{{left: {tower}, right: {tower}}}"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{dim: 4, towers: {towers}, pairs: [{{a: left, b: right}}], cca_init: {{ridge: {{left: 0.5}}}}}}\n"
    )
    train(str(recipe), flags(tmp_path, **{"data.columns": "{left: left, right: right}", "data.batch_size": "8"}))
    model = mmalign.load(tmp_path / "run")

    lines = [json.loads(line) for line in table(tmp_path).read_text().splitlines()]
    sides = {name: [line[name] for line in lines if line["split"] == "train"] for name in ("left", "right")}
    features = {}
    for name, values in sides.items():
        transform, modality = model.transforms[name], model.modalities[name]
        inputs = transform.collate([transform.item(modality.read(value)) for value in values])
        features[name] = model.encoders[name](inputs).vector.detach()
    maps = canonical_maps(features["left"], features["right"], 4, ridge=(0.5, 1.0))
    for (name, values), weight in zip(features.items(), maps, strict=True):
        expected = torch.nn.functional.normalize(values @ weight, dim=1)
        torch.testing.assert_close(model.encode(name, sides[name]).vector, expected, atol=1e-4, rtol=1e-4)


def test_three_towers_are_initialised_from_incomplete_rows(tmp_path: Path) -> None:
    """No step is taken; a held-out row finds its partner by either of the two pairs."""
    rng = np.random.default_rng(0)
    mixes = {name: rng.normal(size=(3, 6)) for name in ("left", "right", "third")}
    lines = []
    for place in range(90):
        cause = rng.normal(size=3)
        row: dict[str, Any] = {name: [*(cause @ mix).round(4)] for name, mix in mixes.items()}
        if place % 3 and place < 80:
            del row[("left", "right", "third")[place % 2]]
        lines.append(json.dumps(row | {"split": "validation" if place >= 80 else "train"}))
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    towers = ", ".join(f"{name}: {{modality: vector, encoder: mlp, args: {{hidden: 32}}}}" for name in mixes)
    pairs = "[{a: left, b: right}, {a: right, b: third}]"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{dim: 3, towers: {{{towers}}}, pairs: {pairs}, cca_init: {{}}}}\n")
    columns = "{left: left, right: right, third: third}"
    train(str(recipe), flags(tmp_path, **{"data.manifest": str(path), "data.columns": columns, "data.batch_size": "8"}))
    model = mmalign.load(tmp_path / "run")
    held = [json.loads(line) for line in lines if '"validation"' in line]
    for a, b in (("left", "right"), ("right", "third")):
        scores = model.similarity(*(model.encode(name, [row[name] for row in held]) for name in (a, b)))
        ranks = (scores > scores.diagonal()[:, None]).sum(1).float()
        assert ranks.mean() < 1.0, ranks  # chance: 4.5


def test_linear_feature_encoders_are_initialised_and_trained(tmp_path: Path) -> None:
    columns = {"data.columns": "{molecule: molecule, text: text}", "data.batch_size": "20", "data.positives": "record"}
    columns["model.towers.text.transform"] = "{min_count: 1}"
    hits = {}
    for name, more in (("start", {}), ("on", {"trainer.max_epochs": "2"})):
        (tmp_path / name).mkdir()
        train("molecule-text/clip", flags(tmp_path / name, **columns, **more))
        model = mmalign.load(tmp_path / name / "run")
        molecules, texts = (
            ["CCCN", "CCCCl", "CCO"],
            ["an amine with 3 carbons", "a chloride with 3 carbons", "an alcohol with 2 carbons"],
        )
        scores = model.similarity(model.encode("molecule", molecules), model.encode("text", texts))
        hits[name] = scores.argmax(1).tolist()
    assert hits == {"start": [0, 1, 2], "on": [0, 1, 2]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model.cca_init": "{ridge: {texts: 1}}"}, "expected molecule and text, got texts"),
        ({"model.cca_init": "{towers: [molecule, ecg]}"}, "paired towers .molecule, text., got molecule, ecg"),
        ({"model.cca_init": "{towers: [molecule]}"}, "two or more"),
        ({"model.towers.text.head": "mlp"}, "towers.text.head must be linear"),
        ({"model.pairs": "[{a: molecule, b: text, objective: fdt}]"}, "no objective reads the vector"),
    ],
)
def test_unsupported_towers_are_errors(tmp_path: Path, more: dict[str, str], message: str) -> None:
    columns = {"data.columns": "{molecule: molecule, text: text}", "data.batch_size": "20"}
    with pytest.raises(UserError, match=message):
        train("molecule-text/clip", flags(tmp_path, **columns, **more))
