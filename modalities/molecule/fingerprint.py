"""What a molecule holds, counted: environments, torsions, motifs, and the values of its atoms' and bonds' fields."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from mmalign.errors import BadSample
from modalities.molecule.molecule import ATOM_SIZES, BOND_SIZES, Molecule
from modalities.molecule.quiet import quiet
from modalities.molecule.transform import family_sizes

RADIUS = 3
_STARTS = np.cumsum([0, *ATOM_SIZES, *BOND_SIZES])[:-1]

Counts = tuple[NDArray[np.int32], NDArray[np.float32]]


def morgan(smiles: str, bins: int, *, stereo: bool = True) -> Counts:
    """How often each environment of radius 0..3 occurs (Rogers and Hahn 2010, doi 10.1021/ci100050t).

    Args:
        smiles: A SMILES that was read before.
        bins: Environments are hashed to this many.
        stereo: Tell environments apart by chirality and the sides of double bonds.

    Returns:
        The bins that occur, ascending, and log(1 + count).

    Example:
        >>> places, counts = morgan("CC", 2048)
        >>> np.expm1(counts).round().tolist()
        [2.0, 1.0]
    """
    return _logs(_hashed(_parsed(smiles), "morgan", bins, stereo))


def fingerprint(sample: Molecule, bins: int, families: Sequence[str], *, stereo: bool = True) -> Counts:
    """Several families of counts side by side, each family of one length, the whole of length one.

    Args:
        sample: The molecule; without stereo, its fields must have been cleared of it already.
        bins: The hashed families have this many bins each.
        families: morgan (environments of radius 0..3), feature (radius 0..2 of acids, donors, rings and the like),
            torsion (four atoms in a row), motifs, fields (how many atoms and bonds have each value of each field).
        stereo: Let environments and torsions tell stereoisomers apart.

    Returns:
        The bins that occur, ascending, and their weights: log(1 + count), scaled.

    Example:
        >>> from modalities.molecule.read import read_molecule
        >>> bins, weights = fingerprint(read_molecule("CCO"), 2048, ["morgan", "fields"])
        >>> round(float((weights**2).sum()), 6), int(bins.max()) < 2048 + 250
        (1.0, True)
    """
    parsed = _parsed(sample.smiles) if set(families) & {"morgan", "feature", "torsion"} else None
    parts, start, filled = [], 0, 0
    for family, size in zip(families, family_sizes(bins, families), strict=True):
        found = (
            _fields(sample)
            if family == "fields"
            else _occurrences(sample.motif_ids)
            if family == "motifs"
            else _hashed(parsed, family, bins, stereo)
        )
        places, logs = _logs(found)
        if len(places):
            parts.append((places + start, logs / np.linalg.norm(logs)))
            filled += 1
        start += size
    places, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return places.astype(np.int32), (weights / filled**0.5).astype(np.float32)


def _parsed(smiles: str) -> Chem.Mol:
    with quiet():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            raise BadSample(f"SMILES {smiles[:40]!r}", "one that rdkit reads", "one that it refuses")
        return mol


def _hashed(mol: Any, family: str, bins: int, stereo: bool) -> Mapping[int, int]:
    with quiet():
        found: Mapping[int, int] = _generator(family, bins, stereo).GetCountFingerprint(mol).GetNonzeroElements()
    return found


def _fields(sample: Molecule) -> dict[int, int]:
    places = [*(sample.atoms + _STARTS[: len(ATOM_SIZES)]).ravel(), *(sample.bonds + _STARTS[len(ATOM_SIZES) :]).ravel()]
    return _occurrences(np.array(places, np.int64))


def _occurrences(values: NDArray[Any]) -> dict[int, int]:
    places, counts = np.unique(values, return_counts=True)
    return dict(zip(places.tolist(), counts.tolist(), strict=True))


def _logs(found: Mapping[int, int]) -> Counts:
    places = sorted(found)
    return np.array(places, np.int32), np.log1p(np.array([found[place] for place in places], np.float32))


@cache
def _generator(family: str, bins: int, stereo: bool) -> rdFingerprintGenerator.FingerprintGenerator64:
    if family == "torsion":
        return rdFingerprintGenerator.GetTopologicalTorsionGenerator(fpSize=bins, includeChirality=stereo)
    if family == "feature":
        kinds = rdFingerprintGenerator.GetMorganFeatureAtomInvGen()
        return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=bins, atomInvariantsGenerator=kinds)
    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=bins, includeChirality=stereo)
