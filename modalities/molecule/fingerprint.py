"""What a molecule holds, counted: environments, torsions, motifs, and the values of its atoms' and bonds' fields."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Descriptors, rdFingerprintGenerator

from mmalign.errors import BadSample
from modalities.molecule.molecule import ATOM_SIZES, BOND_SIZES, Molecule
from modalities.molecule.quiet import quiet
from modalities.molecule.transform import GROUPS, PARSED, family_sizes

RADIUS = 3
DENSE = ("groups", "fields")
SMOOTH, FAR = 0.02, 5.0
_GROUPS = [count.__defaults__[-1] for name, count in Descriptors.descList if name.startswith("fr_")]  # patterns
_STARTS = np.cumsum([0, *ATOM_SIZES, *BOND_SIZES])[:-1]

Counts = tuple[NDArray[np.int32], NDArray[np.float32]]
Found = tuple[NDArray[np.int32], NDArray[np.int32]]  # the bins that occur, ascending, and how often
Scale = Sequence[Sequence[float]]


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
    places, found = _hashed(_parsed(smiles), "morgan", bins, stereo)
    return places, np.log1p(found.astype(np.float32))


def fingerprint(
    sample: Molecule,
    bins: int,
    families: Sequence[str],
    *,
    stereo: bool = True,
    scales: Mapping[str, Scale] | None = None,
    found: Mapping[str, Found] | None = None,
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
        found: What `parsed_counts` gave before; None = it is worked out.

    Returns:
        The bins that count, ascending, and their weights: log(1 + count), scaled.

    Example:
        >>> from modalities.molecule.read import read_molecule
        >>> bins, weights = fingerprint(read_molecule("CCO"), 2048, ["morgan", "fields"])
        >>> round(float((weights**2).sum()), 6), int(bins.max()) < 2048 + 250
        (1.0, True)
    """
    if found is None:
        found = parsed_counts(sample.smiles, bins, families, stereo=stereo)
    parts, start = [], 0
    for family, size in zip(families, family_sizes(bins, families), strict=True):
        if family in DENSE:
            mean, deviation = (scales or {}).get(family, (0.0, 1.0))
            logs = _standardised(np.log1p(counts(sample, family, found)), mean, deviation)
            places = np.arange(size, dtype=np.int32)
        else:
            places, often = found[family] if family in PARSED else _occurrences(sample.motif_ids)
            logs = np.log1p(often.astype(np.float32))
        length = float(np.linalg.norm(logs))
        if length > 0:
            parts.append((places + start, logs / length))
        start += size
    places, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return places.astype(np.int32), (weights / len(parts) ** 0.5).astype(np.float32)


def parsed_counts(smiles: str, bins: int, families: Sequence[str], *, stereo: bool = True) -> dict[str, Found]:
    """Of the families that need rdkit, the bins that occur, ascending, and how often: raw, so that they can be stored.

    Args:
        smiles: A SMILES that was read before; it is parsed once.
        bins: The hashed families have this many bins each.
        families: Those that need no rdkit (motifs, fields) are left out.
        stereo: As in `fingerprint`.

    Example:
        >>> {family: often.tolist() for family, (_, often) in parsed_counts("CC", 2048, ["morgan", "fields"]).items()}
        {'morgan': [2, 1]}
    """
    wanted = [family for family in families if family in PARSED]
    if not wanted:
        return {}
    mol = _parsed(smiles)
    return {family: _groups(mol) if family == "groups" else _hashed(mol, family, bins, stereo) for family in wanted}


def counts(sample: Molecule, family: str, found: Mapping[str, Found] | None = None) -> NDArray[np.float32]:
    """How often each group (rdkit's, `fr_` among its descriptors) or each value of each field occurs."""
    if family == "groups":
        places, often = found["groups"] if found else _groups(_parsed(sample.smiles))
        dense = np.zeros(GROUPS, np.float32)
        dense[places] = often
        return dense
    atoms, bonds = sample.atoms + _STARTS[: len(ATOM_SIZES)], sample.bonds + _STARTS[len(ATOM_SIZES) :]
    places = np.concatenate((atoms.ravel(), bonds.ravel()))
    return np.bincount(places, minlength=sum(ATOM_SIZES) + sum(BOND_SIZES)).astype(np.float32)


def scale_of(
    samples: Iterable[Molecule],
    families: Sequence[str],
    found: Callable[[Molecule], Mapping[str, Found]] | None = None,
) -> dict[str, Scale]:
    """Mean and deviation of log(1 + count) of each bin of groups and fields.

    Args:
        samples: Of the training rows.
        families: What is counted.
        found: What `parsed_counts` gave of a sample before; None = groups are counted here.
    """
    wanted = [family for family in families if family in DENSE]
    rows: dict[str, list[NDArray[np.float32]]] = {family: [] for family in wanted}
    for sample in samples if wanted else ():
        known = found(sample) if found is not None and "groups" in wanted else None
        for family in wanted:
            rows[family].append(np.log1p(counts(sample, family, known)))
    table = {family: np.stack(found) for family, found in rows.items() if found}
    return {family: [logs.mean(0).tolist(), logs.std(0).tolist()] for family, logs in table.items()}


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


def _groups(mol: Chem.Mol) -> Found:
    """What `rdkit.Chem.Fragments` counts, without a Python function a group."""
    with quiet():
        dense = np.array([len(mol.GetSubstructMatches(pattern)) for pattern in _GROUPS], np.int32)
    places = np.flatnonzero(dense).astype(np.int32)
    return places, dense[places]


def _hashed(mol: Chem.Mol, family: str, bins: int, stereo: bool) -> Found:
    with quiet():
        dense = _generator(family, bins, stereo).GetCountFingerprintAsNumPy(mol)
    places = np.flatnonzero(dense).astype(np.int32)
    return places, dense[places].astype(np.int32)


def _occurrences(values: NDArray[Any]) -> Found:
    places, often = np.unique(values, return_counts=True)
    return places.astype(np.int32), often.astype(np.int32)


@cache
def _generator(family: str, bins: int, stereo: bool) -> rdFingerprintGenerator.FingerprintGenerator64:
    if family == "torsion":
        return rdFingerprintGenerator.GetTopologicalTorsionGenerator(fpSize=bins, includeChirality=stereo)
    if family == "feature":
        kinds = rdFingerprintGenerator.GetMorganFeatureAtomInvGen()
        return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=bins, atomInvariantsGenerator=kinds)
    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=bins, includeChirality=stereo)
