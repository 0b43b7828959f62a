"""What a molecule holds, counted: environments, torsions, motifs, and the values of its atoms' and bonds' fields."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Descriptors, rdFingerprintGenerator

from mmalign.errors import BadSample
from modalities.molecule.molecule import ATOM_SIZES, BOND_SIZES, Molecule
from modalities.molecule.quiet import quiet
from modalities.molecule.transform import family_sizes

RADIUS = 3
PARSED = ("morgan", "feature", "torsion", "groups")
DENSE = ("groups", "fields")
SMOOTH, FAR = 0.02, 5.0
_GROUPS = [(name, count) for name, count in Descriptors.descList if name.startswith("fr_")]
_STARTS = np.cumsum([0, *ATOM_SIZES, *BOND_SIZES])[:-1]

Counts = tuple[NDArray[np.int32], NDArray[np.float32]]
Scale = tuple[Sequence[float], Sequence[float]]


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


def fingerprint(
    sample: Molecule,
    bins: int,
    families: Sequence[str],
    *,
    stereo: bool = True,
    scales: Mapping[str, Scale] | None = None,
) -> Counts:
    """Several families of counts side by side, each family of one length, the whole of length one.

    The families of few bins, groups and fields, are standardised first: what most molecules have says little.

    Args:
        sample: The molecule; without stereo, its fields must have been cleared of it already.
        bins: The hashed families have this many bins each.
        families: morgan (environments of radius 0..3), feature (radius 0..2 of acids, donors, rings and the like),
            torsion (four atoms in a row), motifs, groups (rdkit's functional groups), fields (how many atoms and bonds
            have each value of each field).
        stereo: Let environments and torsions tell stereoisomers apart.
        scales: Of groups and fields, the mean and deviation of log(1 + count) among the training molecules.

    Returns:
        The bins that count, ascending, and their weights: log(1 + count), scaled.

    Example:
        >>> from modalities.molecule.read import read_molecule
        >>> bins, weights = fingerprint(read_molecule("CCO"), 2048, ["morgan", "fields"])
        >>> round(float((weights**2).sum()), 6), int(bins.max()) < 2048 + 250
        (1.0, True)
    """
    parsed = _parsed(sample.smiles) if set(families) & set(PARSED) else None
    parts, start = [], 0
    for family, size in zip(families, family_sizes(bins, families), strict=True):
        if family in DENSE:
            dense = np.log1p(counts(sample, family, parsed))
            mean, deviation = (scales or {}).get(family, (0.0, 1.0))
            places, logs = np.arange(size, dtype=np.int32), _standardised(dense, mean, deviation)
        else:
            found = _occurrences(sample.motif_ids) if family == "motifs" else _hashed(parsed, family, bins, stereo)
            places, logs = _logs(found)
        length = float(np.linalg.norm(logs))
        if length > 0:
            parts.append((places + start, logs / length))
        start += size
    places, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return places.astype(np.int32), (weights / len(parts) ** 0.5).astype(np.float32)


def counts(sample: Molecule, family: str, parsed: Any = None) -> NDArray[np.float32]:
    """How often each group (rdkit's, `fr_` among its descriptors) or each value of each field occurs."""
    if family == "groups":
        with quiet():
            mol = _parsed(sample.smiles) if parsed is None else parsed
            return np.array([count(mol) for _, count in _GROUPS], np.float32)
    atoms, bonds = sample.atoms + _STARTS[: len(ATOM_SIZES)], sample.bonds + _STARTS[len(ATOM_SIZES) :]
    places = np.concatenate((atoms.ravel(), bonds.ravel()))
    return np.bincount(places, minlength=sum(ATOM_SIZES) + sum(BOND_SIZES)).astype(np.float32)


def scale_of(samples: Iterable[Molecule], families: Sequence[str]) -> dict[str, Scale]:
    """Mean and deviation of log(1 + count) of each bin of groups and fields."""
    wanted = [family for family in families if family in DENSE]
    rows: dict[str, list[NDArray[np.float32]]] = {family: [] for family in wanted}
    for sample in samples if wanted else ():
        for family in wanted:
            rows[family].append(np.log1p(counts(sample, family)))
    table = {family: np.stack(found) for family, found in rows.items() if found}
    return {family: (logs.mean(0).tolist(), logs.std(0).tolist()) for family, logs in table.items()}


def _standardised(logs: NDArray[np.float32], mean: Any, deviation: Any) -> NDArray[np.float32]:
    spread = np.broadcast_to(np.asarray(deviation, np.float32), logs.shape)
    # A bin that never varied in training says nothing that could have been learnt.
    values = np.where(spread > 0, (logs - np.asarray(mean, np.float32)) / (spread + SMOOTH), 0.0)
    return np.clip(values, -FAR, FAR).astype(np.float32)


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
