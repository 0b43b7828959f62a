"""Count fingerprints: atom environments, torsions, motifs, functional groups, field values of atoms and bonds."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Descriptors, rdFingerprintGenerator

from mmalign.errors import BadSample
from modalities.molecule.chem.enhanced_stereo import with_racemic_flag, without_relative_stereo
from modalities.molecule.chem.rdkit_log import quiet
from modalities.molecule.sample import ATOM_SIZES, BOND_SIZES, MOTIFS
from modalities.molecule.transform import GROUPS, PARSED, BinCounts, Raw, family_sizes

RADIUS = 3
DENSE = ("groups", "fields")
SMOOTH, FAR = 0.02, 5.0
_GROUPS = [count.__defaults__[-1] for name, count in Descriptors.descList if name.startswith("fr_")]  # patterns
_TOGETHER = 1024  # molecules counted at a time
_STARTS = np.cumsum([0, *ATOM_SIZES, *BOND_SIZES])[:-1]

Counts = tuple[NDArray[np.int32], NDArray[np.float32]]
Scale = Sequence[Any]


def morgan(smiles: str, bins: int, *, stereo: bool = True) -> Counts:
    """Morgan count fingerprint of radius 0..3 (Rogers and Hahn 2010, doi 10.1021/ci100050t).

    Args:
        smiles: A SMILES that was read before.
        bins: Number of bins to which environments are hashed.
        stereo: Distinguish environments by chirality and double-bond stereo.

    Returns:
        The bins that occur, ascending, and log(1 + count).

    Example:
        >>> indices, counts = morgan("CC", 2048)
        >>> np.expm1(counts).round().tolist()
        [2.0, 1.0]
    """
    indices, counts = _hashed(_parsed(smiles), "morgan", bins, stereo)
    return indices.astype(np.int32), np.log1p(counts.astype(np.float32))


def fingerprints(
    raw: Sequence[Raw], bins: int, families: Sequence[str], scales: Mapping[str, Scale] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Concatenated families of count fingerprints, each family of equal norm, the whole of unit norm.

    The small families, groups and fields, are standardised first, because most molecules have similar counts.

    Args:
        raw: The molecules, each processed independently.
        bins: Number of bins of each hashed family.
        families: morgan (environments of radius 0..3), feature (radius 0..2 of acids, donors, rings and the like),
            torsion (four atoms in a row), motifs, groups (rdkit's functional groups), fields (how many atoms and bonds
            have each value of each field).
        scales: Of groups and fields, the mean and deviation of log(1 + count) among the training molecules.

    Returns:
        The bins that count, one molecule after the other and ascending in each; their weights: log(1 + count), scaled;
        and which molecule they belong to.

    Example:
        >>> from modalities.molecule.read import read_molecule
        >>> families = ["morgan", "fields"]
        >>> ethanol = Raw(read_molecule("CCO"), parsed_counts("CCO", 2048, families))
        >>> indices, weights, owners = fingerprints([ethanol, ethanol], 2048, families)
        >>> round(float((weights[owners == 1] ** 2).sum()), 6), int(indices.max()) < 2048 + 250
        (1.0, True)
    """
    parts, start, known = [], 0, np.zeros(len(raw))
    for family, size in zip(families, family_sizes(bins, families), strict=True):
        if family in DENSE:
            owners, indices, logs = _standardised(np.log1p(dense_counts(raw, family)), (scales or {}).get(family))
        else:
            owners, indices, often = _joined(raw, family)
            logs = np.log1p(often.astype(np.float32))
        lengths = np.sqrt(np.bincount(owners, logs.astype(np.float64) ** 2, len(raw)))
        known += lengths > 0
        parts.append((owners, indices + start, logs / lengths[owners]))
        start += size
    owners, indices, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(owners, kind="stable")
    owners = owners[order]
    weights = weights[order] / np.sqrt(known[owners])
    return indices[order].astype(np.int32), weights.astype(np.float32), owners.astype(np.int32)


def parsed_counts(smiles: str, bins: int, families: Sequence[str], *, stereo: bool = True) -> dict[str, BinCounts]:
    """Raw counts of the families that need rdkit: occurring bins, ascending, and their counts.

    Args:
        smiles: A valid SMILES; it is parsed once.
        bins: Number of bins of each hashed family.
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


def dense_counts(raw: Sequence[Raw], family: str) -> NDArray[np.float32]:
    """Counts of groups (rdkit's `fr_` descriptors) or of field values, one row per molecule."""
    if family == "groups":
        owners, indices, often = _joined(raw, family)
        dense = np.zeros((len(raw), GROUPS), np.float32)
        dense[owners, indices] = often
        return dense
    size = sum(ATOM_SIZES) + sum(BOND_SIZES)
    table = np.zeros(size * len(raw), np.int64)
    for name, first in (("atoms", _STARTS[: len(ATOM_SIZES)]), ("bonds", _STARTS[len(ATOM_SIZES) :])):
        fields = [getattr(one.sample, name) for one in raw]
        owners = np.repeat(np.arange(len(raw)), [len(rows) for rows in fields])
        indices = np.concatenate(fields) + (first + size * owners[:, None])
        table += np.bincount(indices.ravel(), minlength=len(table))
    return table.reshape(-1, size).astype(np.float32)


def scale_of(raw: Iterable[Raw], families: Sequence[str]) -> dict[str, Scale]:
    """Mean and standard deviation of log(1 + count) of each bin of groups and fields in the training molecules."""
    rows: dict[str, list[NDArray[np.float32]]] = {family: [] for family in families if family in DENSE}
    stream = iter(raw if rows else ())
    while some := list(islice(stream, _TOGETHER)):
        for family, tables in rows.items():
            tables.append(np.log1p(dense_counts(some, family)))
    table = {family: np.concatenate(tables) for family, tables in rows.items() if tables}
    return {family: [logs.mean(0).tolist(), logs.std(0).tolist()] for family, logs in table.items()}


def _standardised(logs: NDArray[np.float32], scale: Scale | None) -> tuple[NDArray[Any], ...]:
    """Non-zero standardised entries: rows, columns, values."""
    mean, spread = (np.asarray(column, np.float32) for column in scale or (0.0, 1.0))
    # A bin that is constant in training carries no information.
    values = np.where(spread > 0, (logs - mean) / (spread + SMOOTH), 0.0).clip(-FAR, FAR).astype(np.float32)
    owners, indices = np.nonzero(values)
    return owners, indices, values[owners, indices]


def _joined(raw: Sequence[Raw], family: str) -> tuple[NDArray[Any], ...]:
    """Occurring bins of all molecules: molecule index, bin, count."""
    if family in PARSED:
        counts = [one.counts[family] for one in raw]
        owners = np.repeat(np.arange(len(raw)), [len(indices) for indices, _ in counts])
        indices, often = (np.concatenate(column) for column in zip(*counts, strict=True))
        return owners, indices.astype(np.int64), often
    owners = np.repeat(np.arange(len(raw)), [len(one.sample.motif_ids) for one in raw])
    ids = np.concatenate([one.sample.motif_ids for one in raw])
    pairs, often = np.unique(owners * MOTIFS + ids, return_counts=True)
    return pairs // MOTIFS, pairs % MOTIFS, often


def _parsed(smiles: str) -> Chem.Mol:
    with quiet:
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            raise BadSample(f"SMILES {smiles[:40]!r}", "one that rdkit reads", "one that it refuses")
        # A fingerprint would take the configuration of enhanced stereo as absolute.
        return without_relative_stereo(with_racemic_flag(mol, smiles)) if "|" in smiles else mol


def _groups(mol: Chem.Mol) -> BinCounts:
    """Counts of `rdkit.Chem.Fragments`, without a Python call per group."""
    with quiet:
        dense = np.array([len(mol.GetSubstructMatches(pattern)) for pattern in _GROUPS], np.int32)
    indices = np.flatnonzero(dense).astype(np.int32)
    return indices, dense[indices]


def _hashed(mol: Chem.Mol, family: str, bins: int, stereo: bool) -> BinCounts:
    with quiet:
        dense = _generator(family, bins, stereo).GetCountFingerprintAsNumPy(mol)
    indices = np.flatnonzero(dense).astype(np.int32)
    return indices, dense[indices].astype(np.int32)


@cache
def _generator(family: str, bins: int, stereo: bool) -> rdFingerprintGenerator.FingerprintGenerator64:
    if family == "torsion":
        return rdFingerprintGenerator.GetTopologicalTorsionGenerator(fpSize=bins, includeChirality=stereo)
    if family == "feature":
        kinds = rdFingerprintGenerator.GetMorganFeatureAtomInvGen()
        return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=bins, atomInvariantsGenerator=kinds)
    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=bins, includeChirality=stereo)
