"""Pictures, made-up molecules, and what happens where rdkit is not installed."""

import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmalign.errors import UserError
from modalities.molecule import MODALITY

pytest.importorskip("rdkit")


def drawn(smiles: str, weights: list[float] | None = None) -> np.ndarray:
    axes = Figure().subplots()
    if weights is None:
        MODALITY.picture(MODALITY.read(smiles), axes)
    else:
        MODALITY.weighted_picture(MODALITY.read(smiles), axes, weights)
    return np.asarray(axes.images[0].get_array())


def test_weights_colour_the_atoms() -> None:
    plain, red, blue = drawn("CCCCO"), drawn("CCCCO", [0, 3.0, 0, 0, 0]), drawn("CCCCO", [0, -0.1, 0, 0, 0])
    assert plain.shape == red.shape
    reddish, bluish = ((p[..., 0] > p[..., 2] + 60.0).sum() for p in (red, blue)), (blue[..., 2] > blue[..., 0] + 60.0)
    more, less = reddish
    assert more > less
    assert bluish.sum() > 100
    unweighted = drawn("CCCCO", [0.0] * 5)  # the numbers of the atoms alone are added
    assert 0 < (unweighted != plain).any(-1).mean() < 0.1
    for wrong in ([1.0], [float("nan")] * 5, [[1.0]] * 5):
        with pytest.raises(UserError, match="5 finite weights"):
            drawn("CCCCO", wrong)  # type: ignore[arg-type]


def test_atoms_are_numbered_as_they_are_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    from rdkit.Chem.Draw import rdMolDraw2D

    from modalities.molecule.picture import MAX_NUMBERED, atom_names

    notes: list[dict[int, str]] = []
    draw = rdMolDraw2D.PrepareAndDrawMolecule

    def recorded(canvas: object, mol: Any, **settings: Any) -> None:
        notes.append({atom.GetIdx(): atom.GetProp("atomNote") for atom in mol.GetAtoms() if atom.HasProp("atomNote")})
        draw(canvas, mol, **settings)

    monkeypatch.setattr(rdMolDraw2D, "PrepareAndDrawMolecule", recorded)
    drawn("NCCO", [0.0, 1.0, 0.0, 0.0])
    assert atom_names(MODALITY.read("NCCO")) == ("N1", "C2", "C3", "O4")
    assert notes.pop() == {0: "1", 1: "2", 2: "3", 3: "4"}
    drawn("NCCO")
    assert notes.pop() == {}
    weights = [0.0] * 7 + [5.0] + [0.0] * MAX_NUMBERED
    drawn("C" * len(weights), weights)
    assert notes[-1][7] == "8"
    assert len(notes[-1]) == 5


@pytest.mark.parametrize("smiles", ["[Na+].[Cl-]", "*", "[H][H]", "C" * 300])
def test_odd_molecules_are_drawn(smiles: str) -> None:
    assert drawn(smiles).std() > 0


def test_toy_samples_of_ten_classes() -> None:
    rng = np.random.default_rng(0)
    for label in range(10):
        made = {MODALITY.toy_sample(label, rng).smiles for _ in range(30)}
        assert len(made) > 8
    with pytest.raises(UserError, match="0..9"):
        MODALITY.toy_sample(10, rng)


def test_missing_rdkit_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = MODALITY.read("C")
    for name in [name for name in sys.modules if name.startswith(("rdkit", "modalities.molecule."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rdkit", None)
    import modalities.molecule as package

    monkeypatch.delattr(package, "read", raising=False)
    monkeypatch.delattr(package, "fingerprint", raising=False)
    with pytest.raises(UserError, match=r"pip install 'mmalign\[molecule\]'"):
        MODALITY.read("C")
    with pytest.raises(UserError, match=r"pip install 'mmalign\[molecule\]'"):
        MODALITY.picture(sample, Figure().subplots())
    with pytest.raises(UserError, match=r"pip install 'mmalign\[molecule\]'"):
        MODALITY.transform("gine", {"fingerprint": 2048}).item(sample)
