"""Nearest molecules: the same skeleton first, then Tanimoto similarity of atom environments, in NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modalities.common.largest import largest
from modalities.molecule.sample import ATOM_FIELDS, BOND_FIELDS, Fields, Molecule

BINS = 1024
"""Bits of a fingerprint."""

RADIUS = 2
ROUNDS = 8
BLOCK = 1 << 24  # similarities at a time, 64 MB

_FIELDS, _BONDS = list(ATOM_FIELDS), list(BOND_FIELDS)
_SKELETON = [_FIELDS.index("element")], [_BONDS.index("type")]
_PLAIN = [_FIELDS.index(name) for name in ("element", "charge", "hydrogens", "ring")], [_BONDS.index("type")]
_ALL = [*range(len(_FIELDS))], [*range(len(_BONDS))]

Hashes = NDArray[np.uint64]


def neighbours(molecules: Sequence[Molecule], count: int) -> NDArray[np.int64]:
    """The nearest other molecules of each, nearest first.

    First those of the same skeleton (elements and bonds), which differ by stereo, charge, hydrogens or isotopes; then,
    and among themselves, by the Tanimoto similarity |A and B| / |A or B| of the bits A, B of circular environments
    (Rogers and Hahn 2010, doi 10.1021/ci100050t; radius 0 to 2, with how often each occurs as 1, 2, 4, ...). Equal
    similarity: the lower index first. Molecules that are equal in every field are no neighbours.

    Skeletons and equality are compared by Weisfeiler-Lehman labels (Shervashidze et al. 2011), so a few different
    graphs may count as one skeleton, or be left out as equal.

    Args:
        molecules: All of them, `n`. Time grows with n squared: 3,000 take a second, 33,000 under a minute.
        count: Number of neighbours.

    Returns:
        Indices into `molecules`, `(n, count)`, -1 where there are fewer.

    Example:
        >>> from modalities.molecule.read import read_molecule
        >>> from modalities.molecule.chem.neighbours import neighbours
        >>> smiles = ["C[C@H](N)C(=O)O", "CCCC", "C[C@@H](N)C(=O)O", "CCC", "OC(=O)[C@H](C)N", "CC(N)C(=O)[O-]"]
        >>> neighbours([read_molecule(text) for text in smiles], 2)[:, 0].tolist()
        [2, 3, 0, 1, 2, 0]
    """
    total = len(molecules)
    nearest = np.full((total, count), -1, np.int64)
    if total < 2 or count < 1:
        return nearest
    graphs = _Graphs.of(list(molecules))
    bits = _bits(graphs)
    sizes = bits.sum(1)
    kin, same = graphs.names(*_SKELETON), graphs.names(*_ALL)
    families = _families(kin)
    rows = max(1, BLOCK // total)
    for start in range(0, total, rows):
        stop = min(start + rows, total)
        alike = bits[start:stop] @ bits.T  # integers: exact in any order of summation
        union = sizes[start:stop, None] + sizes
        union -= alike
        alike /= union
        for row, index in enumerate(range(start, stop)):
            family = families[kin[index]]
            alike[row, family] += np.where(same[family] == same[index], -3, 1)
        nearest[start:stop] = largest(alike, count)
    return nearest


def _families(names: Hashes) -> dict[int, NDArray[np.int64]]:
    """Hash -> indices with it, in order."""
    order = np.argsort(names, kind="stable")
    starts = np.flatnonzero(np.diff(names[order], prepend=names[order[0]] - np.uint64(1)))
    return {int(names[part[0]]): part for part in np.split(order, starts[1:])}


@dataclass(frozen=True)
class _Graphs:
    """All molecules as one graph.

    Args:
        atoms: Fields of all atoms, `(atoms, 10)`.
        bonds: Fields of all bonds, in both directions and by the atom that they lead to, `(2 bonds, 4)`.
        source: The atom that each of these comes from.
        into: Where the bonds into each atom end in that list, beginning with 0, `(atoms + 1,)`.
        sizes: Atoms of each molecule.
    """

    atoms: Fields
    bonds: Fields
    source: NDArray[np.int64]
    into: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @staticmethod
    def of(molecules: Sequence[Molecule]) -> "_Graphs":
        sizes = np.array([len(one.atoms) for one in molecules])
        links = np.array([len(one.bonds) for one in molecules])
        ends = np.concatenate([one.ends for one in molecules]) + np.repeat(np.cumsum(sizes) - sizes, links)[:, None]
        bonds = np.concatenate([one.bonds for one in molecules])
        source, target = np.concatenate((ends, ends[:, ::-1])).T
        order = np.argsort(target, kind="stable")
        into = np.concatenate(([0], np.cumsum(np.bincount(target, minlength=sizes.sum()))))
        return _Graphs(
            np.concatenate([one.atoms for one in molecules]),
            np.concatenate((bonds, bonds))[order],
            source[order],
            into,
            sizes,
        )

    def labels(self, atom_fields: Sequence[int], bond_fields: Sequence[int], rounds: int) -> list[Hashes]:
        """Weisfeiler-Lehman labels of the atoms after 0, 1, ... rounds, from these fields."""
        links = _row_hash(self.bonds[:, bond_fields])
        levels = [_row_hash(self.atoms[:, atom_fields])]
        for _ in range(rounds):
            around = _segment_sums(_mixed(levels[-1][self.source] * np.uint64(3) + links), self.into)
            levels.append(_mixed(levels[-1] + around))
        return levels

    def names(self, atom_fields: Sequence[int], bond_fields: Sequence[int]) -> Hashes:
        """Hash of each molecule, equal for equal graphs by these fields."""
        last = self.labels(atom_fields, bond_fields, ROUNDS)[-1]
        return _segment_sums(_mixed(last), np.concatenate(([0], np.cumsum(self.sizes))))


def _bits(graphs: _Graphs) -> NDArray[np.float32]:
    """Binary fingerprints, `(molecules, BINS)`: a bit for each environment and each power of two of its count."""
    labels = graphs.labels(*_PLAIN, RADIUS)
    label = np.concatenate(labels)
    molecule = np.tile(np.repeat(np.arange(len(graphs.sizes)), graphs.sizes), len(labels))
    order = np.lexsort((label, molecule))
    label, molecule = label[order], molecule[order]
    new = np.concatenate(([True], (label[1:] != label[:-1]) | (molecule[1:] != molecule[:-1])))
    starts = np.flatnonzero(new)
    times = np.arange(len(label)) - np.repeat(starts, np.diff(starts, append=len(label))) + 1
    powers = times & (times - 1) == 0  # the first, second, fourth, eighth ... time that it occurs
    bins = _mixed(label[powers] + times[powers].astype(np.uint64)) % np.uint64(BINS)
    bits = np.zeros((len(graphs.sizes), BINS), np.float32)
    bits[molecule[powers], bins.astype(np.int64)] = 1
    return bits


def _row_hash(fields: Fields) -> Hashes:
    hashes = np.zeros(len(fields), np.uint64)
    for column in fields.T:
        hashes = _mixed(hashes + column.astype(np.uint64))
    return hashes


def _mixed(values: Hashes) -> Hashes:
    """Bijective hash (splitmix64, Steele et al. 2014), so that sums of hashed labels distinguish multisets."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _segment_sums(values: Hashes, bounds: NDArray[np.int64]) -> Hashes:
    """Sums modulo 2**64 of the values between neighbouring bounds; 0 where there are none between."""
    totals = np.concatenate((np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)))
    return totals[bounds[1:]] - totals[bounds[:-1]]
