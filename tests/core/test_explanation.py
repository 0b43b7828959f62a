"""From two samples to a picture of which tokens answer to which, by every objective and modality that can."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from mmalign.bundles import bundle
from mmalign.cli import main
from mmalign.errors import UserError
from mmalign.explanation import explain
from mmalign.heads import CodebookConfig
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.registry import load

TEXTS = ["a member of phenols with two hydroxy groups", "an ester, of acetic acid", "sinus rhythm, left bundle block"]
PHENOL = "Oc1ccc(O)cc1CCC(=O)OC"
TEXT = {"width": 16, "depth": 1, "heads": 2}
SIDES: dict[str, dict[str, Any]] = {
    "molecule": {"encoder": "hierarchical", "args": {"width": 16, "depth": 1, "atom_depth": 1}},
    "ecg": {"encoder": "patches", "args": {"width": 16, "depth": 1, "heads": 2, "beats": True}},
    "image": {"encoder": "vit", "args": {"width": 16, "depth": 1, "heads": 2, "patch": 12, "size": 48}},
    "vector": {"args": {"width": 4}},
}


@pytest.fixture(scope="module")
def made() -> Callable[..., Aligner]:
    def make(
        side: str, *terms: tuple[str, dict[str, Any]], text: dict[str, Any] | None = None, reduce: int = 0
    ) -> Aligner:
        torch.manual_seed(0)
        towers = {side: TowerConfig(**SIDES[side], reduce=reduce), "text": TowerConfig(args=TEXT | (text or {}))}
        transforms = fit_transforms(towers, {side: [], "text": TEXTS * 20})
        pairs = [PairConfig(side, "text", objective, args) for objective, args in terms]
        return Aligner(towers, pairs, 8, transforms, codebook=CodebookConfig(codes=32, temperature=32.0))

    return make


TERMS: list[tuple[str, dict[str, Any]]] = [
    ("transport", {}),
    ("transport", {"level_a": "parts", "level_b": "parts"}),
    ("transport", {"level_a": "parts", "rho_b": 0.1}),
    ("late_interaction", {}),
    ("local", {}),
    ("fdt", {}),
]


@pytest.mark.parametrize("term", TERMS, ids=str)
def test_a_molecule_by_every_objective(
    made: Callable[..., Aligner], term: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    pytest.importorskip("rdkit")
    phrases = {"phrases": True} if term[1].get("level_b") == "parts" else {}
    model = made("molecule", term, text=phrases)
    found = explain(model, PHENOL, TEXTS[0], pair=("molecule", "text"))
    assert (found.drawn.tower, found.query.tower) == ("molecule", "text")
    assert found.drawn.units.labels[:3] == ("O1", "C2", "C3")
    assert list(found.query.units.labels) == TEXTS[0].split()
    a, b = model.encode("molecule", PHENOL), model.encode("text", TEXTS[0])
    assert found.score == pytest.approx(float(model.similarity(a, b)), abs=1e-5)
    if term[0] == "fdt":
        assert float(found.weights.sum()) == pytest.approx(float(a.codes @ b.codes.T), abs=1e-6)
    else:
        assert_close(found.weights, model.objective.correspondence(a, b).weights)
    for one in found.attributions:
        assert one.weights.shape == (14,)
        assert one.weights.sum() == pytest.approx(1)
    turned = explain(model, TEXTS[0], PHENOL, pair=("text", "molecule"))
    assert [one.word for one in turned.attributions] == [one.word for one in found.attributions]
    assert_close(turned.weights, found.weights, rtol=0, atol=1e-5)
    assert turned.drawn.tower == "molecule", "words ask, the molecule is drawn, whichever comes first"
    found.draw(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert 500 < max(picture.size) < 4000


@pytest.mark.parametrize("objective", ["transport", "late_interaction", "fdt"])
@pytest.mark.parametrize("network", ["GIN", "AttentiveFP"])
def test_a_molecule_by_a_network_of_another_library(
    made: Callable[..., Aligner], monkeypatch: pytest.MonkeyPatch, objective: str, network: str
) -> None:
    pytest.importorskip("torch_geometric")
    monkeypatch.setitem(SIDES, "molecule", {"encoder": "pyg", "args": {"model": network, "width": 16, "depth": 2}})
    found = explain(made("molecule", (objective, {})), PHENOL, TEXTS[0], pair=("molecule", "text"))
    assert found.weights.shape[0] == len(found.drawn.units.labels) == 14
    assert found.drawn.units.labels[:3] == ("O1", "C2", "C3")
    assert found.attributions[0].weights.std() > 0


@pytest.mark.parametrize("objective", ["transport", "late_interaction", "local", "fdt"])
def test_reduced_tokens_are_mapped_back(made: Callable[..., Aligner], objective: str) -> None:
    """Four reduced tokens of sixteen patches: the mass of each is distributed over the patches it is made of."""
    model = made("image", (objective, {}), reduce=4)
    sample = load("modalities", "image").toy_sample(0, np.random.default_rng(0))
    found = explain(model, sample, TEXTS[0], pair=("image", "text"))
    assert found.weights.shape[0] == len(found.drawn.units.labels) == 16
    a, b = model.encode("image", [sample]), model.encode("text", TEXTS[0])
    if objective == "fdt":
        total = float(a.codes @ b.codes.T)
    else:
        assert a.tokens.values.shape == (1, 4, 8)
        compared = model.objective.objectives[0].correspondence(a, b)
        assert_close(found.weights, a.tokens.origin[0].T @ compared)
        assert_close(model.correspondence(b, a).weights, found.weights.T)
        total = float(compared.sum())
    assert float(found.weights.sum()) == pytest.approx(total, abs=1e-6)


def test_motifs_and_phrases_spread_over_atoms_and_words(made: Callable[..., Aligner]) -> None:
    pytest.importorskip("rdkit")
    model = made("molecule", ("transport", {"level_a": "parts", "level_b": "parts"}), text={"phrases": True})
    found = explain(model, PHENOL, TEXTS[1], pair=("molecule", "text"))
    sample = load("modalities", "molecule").read(PHENOL)
    assert found.weights.shape == (len(sample.motif_ids), 2)
    assert {one.word for one in found.attributions} == {"an ester,", "of acetic acid"}
    for side in (found.drawn, found.query):
        np.testing.assert_allclose(side.units.members.sum(0), 1)
    for one in found.attributions:
        phrase = 0 if one.units[0] == 0 else 1
        sizes = np.bincount(sample.motif)
        column = found.weights[:, phrase].double().numpy() / float(found.weights[:, phrase].sum())
        np.testing.assert_allclose(one.weights, (column / sizes)[sample.motif], rtol=1e-6)


def test_a_large_molecule_and_a_long_text(made: Callable[..., Aligner], tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    model = made("molecule", ("late_interaction", {}))
    found = explain(model, "C" * 574, "hydroxy $_{ " * 5000, pair=("molecule", "text"))
    assert len(found.drawn.units.labels) == 574
    assert len(found.query.units.labels) < 70, "what lies beyond the longest text was not seen"
    found.draw(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 3_000_000
    one = explain(model, "C", "x", pair=("molecule", "text"))
    assert [one.word for one in one.attributions] == ["x"]


@pytest.mark.parametrize("level", ["tokens", "parts"])
def test_an_ecg_is_shaded_where_its_tokens_or_beats_are(made: Callable[..., Aligner], level: str) -> None:
    model = made("ecg", ("transport", {"level_a": level}))
    sample = load("modalities", "ecg").toy_sample(0, np.random.default_rng(0))
    found = explain(model, sample, TEXTS[2], pair=("ecg", "text"))
    assert len(found.drawn.units.labels) == 12 * 20
    assert found.drawn.units.labels[21] == "II 0.5-1.0 s"
    members = found.drawn.units.members
    np.testing.assert_allclose(members.sum(0), 1)
    if level == "parts":
        assert members.shape[1] == found.weights.shape[0] > 5
        assert members[:20].any(0).all(), "every beat has a part of every lead"
        np.testing.assert_array_equal(members[:20], members[220:])
    axes = found.figure().axes[1]
    labels = [text.get_text() for text in axes.texts]
    assert "II (shaded: all leads)" in labels
    shares = [float(text.split()[1].rstrip("%")) for text in labels[:12]]
    assert sum(shares) == pytest.approx(100, abs=6)


def test_a_picture_is_lit_where_its_patches_are(made: Callable[..., Aligner], tmp_path: Path) -> None:
    model = made("image", ("late_interaction", {}))
    sample = load("modalities", "image").toy_sample(0, np.random.default_rng(0))
    found = explain(model, sample, TEXTS[0], pair=("image", "text"), most=2)
    assert found.drawn.units.labels[5] == "row 2, column 2"
    figure = found.figure()
    shown = figure.axes[1].images[0].get_array()
    first = min(found.attributions, key=lambda one: one.units)
    row, column = divmod(int(first.weights.argmax()), 4)
    patch = slice(12 * row, 12 * row + 12), slice(12 * column, 12 * column + 12)
    np.testing.assert_array_equal(shown[patch], found.drawn.shown[patch])
    found.draw(tmp_path / "a.svg")


def test_pairs_that_cannot_be_explained_are_errors(made: Callable[..., Aligner]) -> None:
    pytest.importorskip("rdkit")
    with pytest.raises(UserError, match="clip compares whole.*mmalign train molecule-text/fdt or molecule-text/o"):
        explain(made("molecule", ("clip", {})), PHENOL, TEXTS[0], pair=("molecule", "text"))
    two = made("molecule", ("clip", {}), ("transport", {}), ("local", {}))
    assert explain(two, PHENOL, TEXTS[0], pair=("molecule", "text")).term == "molecule_text_transport"
    named = explain(two, PHENOL, TEXTS[0], pair=("molecule", "text"), term="local")
    assert named.term == "molecule_text_local"
    with pytest.raises(UserError, match="most: expected 1 to 6, got 7"):
        explain(two, PHENOL, TEXTS[0], pair=("molecule", "text"), most=7)


def test_pair_without_drawable_modality_is_an_error() -> None:
    towers = {side: TowerConfig(modality="vector", args={"width": 4}) for side in ("left", "right")}
    pairs = [PairConfig("left", "right", "late_interaction")]
    model = Aligner(towers, pairs, 8, fit_transforms(towers, {"left": [], "right": []}))
    with pytest.raises(UserError, match="neither of left and right can be drawn with weights"):
        explain(model, [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], pair=("left", "right"))


def test_the_text_is_drawn_where_the_other_tower_cannot_be(made: Callable[..., Aligner], tmp_path: Path) -> None:
    found = explain(made("vector", ("transport", {})), [1.0, 2.0, 3.0, 4.0], TEXTS[0], pair=("vector", "text"))
    assert (found.drawn.tower, found.query.units.labels) == ("text", ["token 1"])
    found.draw(tmp_path / "a.png")


def test_on_the_command_line(made: Callable[..., Aligner], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rdkit")
    model, out = made("molecule", ("transport", {})), tmp_path / "new" / "pair.png"
    bundle.save(model, tmp_path / "bundle")
    given = ["explain", str(tmp_path / "bundle"), PHENOL, TEXTS[0]]
    assert main([*given, str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "hydroxy" in capsys.readouterr().out
    assert main([*given, str(tmp_path / "pair.svg"), "--pair", "[molecule, text]", "--most", "3"]) == 0
    assert "<svg" in (tmp_path / "pair.svg").read_text()[:1000]
    for flags, message in (
        ([*given, str(tmp_path / "pair.gif")], "expected a name that ends in .png"),
        ([*given, str(out), "--term", "transprot"], "did you mean 'transport'"),
        ([*given[:2], "C1CC", TEXTS[0], str(out)], "ring bond 1 that is not closed"),
        ([*given[:3], " ", str(out)], "white space only"),
    ):
        capsys.readouterr()
        assert main(flags) == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1


def test_search_results_are_drawn(made: Callable[..., Aligner], tmp_path: Path) -> None:
    """Molecules are read from the table itself; files and arrays from the data that was embedded."""
    pytest.importorskip("rdkit")
    model = made("molecule", ("transport", {}))
    bundle.save(model, tmp_path / "bundle")
    table = tmp_path / "rows.tsv"
    table.write_text("id\tmolecule\ttext\n" + "".join(f"CHEBI:{i}\t{'C' * i}O\t{TEXTS[0]}\n" for i in range(1, 13)))
    index, found = tmp_path / "index.parquet", tmp_path / "found.json"
    data = ["--data.manifest", str(table), "--data.columns", json.dumps({"molecule": "molecule", "text": "text"})]
    assert main(["embed", str(tmp_path / "bundle"), "molecule", str(index), *data]) == 0
    query = ["search", str(tmp_path / "bundle"), str(index), "text", "an alcohol", "$x", "--json", str(found)]
    assert main([*query, "--picture", str(tmp_path / "grid.png")]) == 0
    with Image.open(tmp_path / "grid.png") as picture:
        assert 1000 < picture.size[0] < 8000
    assert len(json.loads(found.read_text())[0]["answers"]) == 10
    assert main([*query, "--picture", str(tmp_path / "grid.jpg")]) == 2
