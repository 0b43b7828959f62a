"""Motifs of a molecule: cut at BRICS bonds, then between ring systems; each atom is in exactly one motif."""

from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from modalities.molecule.sample import MOTIFS, Fields

Rings = Sequence[Sequence[int]]


def motifs(mol: Chem.Mol, ends: NDArray[np.int64], rings: Rings) -> tuple[Fields, Fields]:
    """The motif of each atom and the identity of each motif.

    Cut at BRICS bonds (Degen et al. 2008, doi 10.1002/cmdc.200800178); then, in fragments with several ring systems, at
    every ring bond on a path from one to another (MGSSL, arXiv 2110.00987, cuts all bonds of a ring). The cuts do not
    depend on the order of the atoms. The identity is the canonical SMILES of the fragment, without stereo, with `*` at
    cut bonds, hashed into `MOTIFS` buckets.

    Args:
        mol: A sanitised molecule.
        ends: The two atoms of each bond.
        rings: The bonds of each ring.

    Returns:
        motif `(atoms,)`, numbered by first atom, and ids `(motifs,)` in 1..`MOTIFS` - 1.
    """
    pairs: list[list[int]] = ends.tolist()
    in_ring = {bond for ring in rings for bond in ring}
    cut = brics_bonds(mol, pairs, in_ring)
    if len(rings) > 1:
        cut |= ring_bonds(mol.GetNumAtoms(), pairs, in_ring, cut)
    pieces = Chem.FragmentOnBonds(mol, sorted(cut), dummyLabels=[(0, 0)] * len(cut)) if cut else mol
    members = Chem.GetMolFrags(pieces)
    where = [0] * pieces.GetNumAtoms()
    for piece, atoms in enumerate(members):
        for atom in atoms:
            where[atom] = piece
    # One SMILES for all: it contains each fragment as if written alone.
    names, seen = Chem.MolToSmiles(pieces, isomericSmiles=False).split("."), 0
    order = list(pieces.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])
    ids = [0] * len(members)
    for name in names:
        piece = where[order[seen]]
        ids[piece] = identity(name)
        seen += len(members[piece])
    return np.array(where[: mol.GetNumAtoms()], np.int16), np.array(ids, np.int16)


@lru_cache(maxsize=1 << 16)
def identity(smiles: str) -> int:
    """The bucket of a motif's canonical SMILES, 1..`MOTIFS` - 1, the same on every machine."""
    return 1 + int.from_bytes(blake2b(smiles.encode(), digest_size=8).digest(), "little") % (MOTIFS - 1)


def brics_bonds(mol: Chem.Mol, pairs: Sequence[Sequence[int]], in_ring: set[int]) -> set[int]:
    """The bonds that `rdkit.Chem.BRICS.FindBRICSBonds` finds, from the 16 environments in place of their 46 pairs.

    Both ends of such a bond have two neighbours or more and the bond is in no ring: few molecules need all patterns.
    """
    degree = [0] * mol.GetNumAtoms()
    for a, b in pairs:
        degree[a] += 1
        degree[b] += 1
    open_bonds = [
        index for index, (a, b) in enumerate(pairs) if degree[a] > 1 and degree[b] > 1 and index not in in_ring
    ]
    if not open_bonds:
        return set()
    environments, partners = _brics()
    labels: dict[int, list[str]] = {}
    present = {mol.GetAtomWithIdx(atom).GetSymbol() for atom in {atom for bond in open_bonds for atom in pairs[bond]}}
    for name, symbol, pattern in environments:
        if symbol not in present:
            continue
        for (atom,) in mol.GetSubstructMatches(pattern, maxMatches=len(degree)):
            labels.setdefault(atom, []).append(name)
    bonds = set()
    for index in open_bonds:
        a, b = pairs[index]
        kinds = {kind for x in labels.get(a, ()) for y in labels.get(b, ()) if (kind := partners.get((x, y)))}
        if kinds and _KINDS.get(mol.GetBondWithIdx(index).GetBondType()) in kinds:
            bonds.add(index)
    return bonds


_KINDS = {Chem.BondType.SINGLE: "-", Chem.BondType.DOUBLE: "="}


@cache
def _brics() -> tuple[list[tuple[str, str, Chem.Mol]], dict[tuple[str, str], str]]:
    """The environments with the element of their first atom, and which two of them a bond of which kind joins."""
    from rdkit.Chem import BRICS

    partners: dict[tuple[str, str], str] = {}
    for group in BRICS.reactionDefs:
        for first, second, kind in group:
            a, b = (BRICS.environs[f"L{name}"] for name in (first, second))  # some names share a pattern
            partners[a, b] = partners[b, a] = kind
    used = sorted({smarts for pair in partners for smarts in pair})
    return [(smarts, smarts[1].upper(), Chem.MolFromSmarts(f"[$({smarts})]")) for smarts in used], partners


def ring_bonds(count: int, pairs: Sequence[Sequence[int]], in_ring: set[int], cut: set[int]) -> set[int]:
    """Bonds of rings that lie on the way from one ring system to another, among the bonds that are not cut yet.

    Args:
        count: Number of atoms.
        pairs: The two atoms of each bond.
        in_ring: Bonds in rings; ring systems are what these join.
        cut: Bonds that are cut already.
    """
    parent = list(range(count))

    def root(atom: int) -> int:
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    for bond in in_ring:
        parent[root(pairs[bond][0])] = root(pairs[bond][1])
    systems = {root(pairs[bond][0]) for bond in in_ring}
    if len(systems) < 2:
        return set()
    # With every ring system contracted, the molecule is a forest: remove leaves that are no rings.
    edges = {bond: (root(a), root(b)) for bond, (a, b) in enumerate(pairs) if bond not in in_ring and bond not in cut}
    touching: dict[int, set[int]] = {}
    for bond, points in edges.items():
        for point in points:
            touching.setdefault(point, set()).add(bond)
    ends = [point for point, bonds in touching.items() if len(bonds) == 1 and point not in systems]
    while ends:
        point = ends.pop()
        for bond in touching.pop(point):
            first, second = edges.pop(bond)
            other = second if first == point else first
            touching[other].discard(bond)
            if len(touching[other]) == 1 and other not in systems:
                ends.append(other)
    return {bond for bond, points in edges.items() if systems.intersection(points)}
