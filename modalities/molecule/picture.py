"""A structural formula on matplotlib axes, atoms coloured by weight if asked to."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from mmalign.errors import UserError
from modalities.molecule.chem.rdkit_log import quiet
from modalities.molecule.sample import ATOM_FIELDS, Molecule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (450, 350)
MAX_NUMBERED = 60
"""Atoms of a molecule up to which all are numbered."""

_NEUTRAL, _POSITIVE, _NEGATIVE = np.ones(3), np.array([0.95, 0.45, 0.3]), np.array([0.35, 0.55, 0.95])


def draw(sample: Molecule, axes: "Axes", weights: Sequence[float] | None = None) -> None:
    """Draw a molecule.

    Args:
        sample: The molecule.
        axes: Axes to draw on.
        weights: One number per atom, in the order of the sample's atoms; the largest absolute value has the full
            colour, red above zero, blue below. With weights, atoms are numbered as `atom_names` does.

    Raises:
        UserError: the weights are not one finite number per atom.
    """
    with quiet:
        mol = Chem.MolFromSmiles(sample.smiles)
        colours = {} if weights is None else _colours(sample, np.asarray(weights, dtype=float))
        if weights is not None:  # the numbers of `atom_names`
            for index in _numbered(np.abs(np.asarray(weights, dtype=float))):
                mol.GetAtomWithIdx(index).SetProp("atomNote", str(index + 1))
        canvas = rdMolDraw2D.MolDraw2DCairo(*SIZE)
        canvas.drawOptions().fillHighlights = True  # type: ignore[assignment]  # of rdkit's stub
        rdMolDraw2D.PrepareAndDrawMolecule(
            canvas, mol, highlightAtoms=list(colours), highlightAtomColors=colours, highlightBonds=[]
        )
        canvas.FinishDrawing()
    axes.imshow(np.asarray(Image.open(io.BytesIO(canvas.GetDrawingText())).convert("RGB")))
    axes.set_axis_off()


def atom_names(sample: Molecule) -> tuple[str, ...]:
    """Label of each atom: its element and its index from 1, as in `N3`."""
    table = Chem.GetPeriodicTable()
    numbers = (sample.atoms[:, list(ATOM_FIELDS).index("element")] - 1).tolist()  # the bucket of value 0 is 1
    return tuple(
        f"{table.GetElementSymbol(number) if number > 0 else '*'}{index}" for index, number in enumerate(numbers, 1)
    )


def _numbered(strength: NDArray[np.float64]) -> list[int]:
    """Atoms that are numbered: all of them, or those with the largest weights in a large molecule."""
    count = len(strength) if len(strength) <= MAX_NUMBERED else 5
    numbered: list[int] = np.argsort(-strength, kind="stable")[:count].tolist()
    return numbered


def _colours(sample: Molecule, weights: NDArray[np.float64]) -> dict[int, tuple[float, ...]]:
    if weights.shape != (len(sample.atoms),) or not np.isfinite(weights).all():
        raise UserError(f"expected {len(sample.atoms)} finite weights, one an atom, got shape {weights.shape}")
    strength = np.abs(weights) / max(np.abs(weights).max(), 1e-12)
    return {
        atom: tuple(_NEUTRAL + share * ((_POSITIVE if weight > 0 else _NEGATIVE) - _NEUTRAL))
        for atom, (weight, share) in enumerate(zip(weights.tolist(), strength.tolist(), strict=True))
        if weight
    }
