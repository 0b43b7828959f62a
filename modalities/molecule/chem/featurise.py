"""Fields of atoms and bonds of an rdkit molecule, independent of the order of the atoms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdCIPLabeler

from modalities.molecule.chem.enhanced_stereo import relative_labels
from modalities.molecule.chem.motifs import motifs
from modalities.molecule.sample import (
    ATOM_FIELDS,
    ATOM_SIZES,
    BOND_FIELDS,
    BOND_SIZES,
    BOND_STEREO,
    CHIRALITY,
    Molecule,
    buckets,
)

VERSION = 2
"""Version; raised whenever the same molecule would have other features, so that caches are rebuilt."""

CIP_EFFORT = 100_000
"""Maximum number of steps of the CIP rules per molecule, about 0.1 s; most need under 10,000."""

_TABLE = Chem.GetPeriodicTable()
_COMMON = np.array([0, *(_TABLE.GetMostCommonIsotope(number) for number in range(1, 119))])
_AROMATIC = int(Chem.BondType.AROMATIC)
_ATOMS = np.array([low for low, _ in ATOM_FIELDS.values()]), np.array(ATOM_SIZES)
_BONDS = np.array([low for low, _ in BOND_FIELDS.values()]), np.array(BOND_SIZES)
_SPECIFIED = int(Chem.BondStereo.STEREOANY)  # rdkit's numbers above this one say which side is which


def featurise(mol: Chem.Mol, smiles: str, *, stereo: bool = True, parts: bool = True) -> Molecule:
    """Fields, CIP labels and motifs of a sanitised molecule, in the order of its atoms.

    Args:
        mol: The molecule.
        smiles: Its SMILES.
        stereo: False = no CIP labels, for molecules without stereo centres.
        parts: False = one motif for the whole molecule, without identity.
    """
    rings = mol.GetRingInfo().BondRings()
    atoms, bonds, ends = graph_fields(mol, rings)
    if stereo:
        atoms[:, -1], bonds[:, -1] = _labels(mol)
    where, ids = motifs(mol, ends, rings) if parts else (np.zeros(len(atoms), np.int16), np.zeros(1, np.int16))
    ready = buckets(atoms, *_ATOMS), buckets(bonds, *_BONDS), ends.astype(np.int16)
    return Molecule(smiles, *ready, where, ids)


def graph_fields(
    mol: Chem.Mol, rings: tuple[tuple[int, ...], ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Values of the atoms' and bonds' fields without stereo, and the bonds' ends.

    Calls per atom and field dominate the time, so degree, aromaticity and rings are computed from the bonds.
    """
    count, links = mol.GetNumAtoms(), mol.GetNumBonds()
    flat = [
        value
        for atom in map(mol.GetAtomWithIdx, range(count))  # faster than rdkit's own sequence
        for value in (
            atom.GetAtomicNum(),
            atom.GetFormalCharge(),
            atom.GetTotalNumHs(),
            atom.GetNumRadicalElectrons(),
            atom.GetHybridization(),
            atom.GetIsotope(),
        )
    ]
    atoms, bonds = np.zeros((count, len(ATOM_FIELDS)), np.int64), np.zeros((links, len(BOND_FIELDS)), np.int64)
    atoms[:, :6] = np.array(flat, np.int64).reshape(count, 6)
    isotope = atoms[:, 5]
    if isotope.any():
        excess = isotope - _COMMON[atoms[:, 0]]
        isotope[:] = np.where(isotope == 0, 0, np.where(abs(excess) > 8, -1, 9 + excess))
    flat = [
        value
        for bond in map(mol.GetBondWithIdx, range(links))
        for value in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondType(), bond.GetIsConjugated())
    ]
    table = np.array(flat, np.int64).reshape(links, 4)
    ends, bonds[:, :2] = table[:, :2], table[:, 2:]
    atoms[:, 6] = np.bincount(ends.ravel(), minlength=count)
    if rings:
        bonds[[index for ring in rings for index in ring], 2] = 1
        atoms[ends[bonds[:, 0] == _AROMATIC], 7] = 1
        atoms[ends[bonds[:, 2] == 1], 8] = 1
    return atoms, bonds, ends


def _labels(mol: Chem.Mol) -> tuple[list[int], list[int]]:
    """CIP labels of atoms and bonds by value (Hanson et al. 2018, doi 10.1021/acs.jcim.8b00324).

    A centre that the rules cannot label within the limit has the last value. For centres
    whose absolute configuration is not known see `relative_labels`.
    """
    centres = [atom for atom in map(mol.GetAtomWithIdx, range(mol.GetNumAtoms())) if atom.GetChiralTag()]
    doubles = [bond for bond in map(mol.GetBondWithIdx, range(mol.GetNumBonds())) if bond.GetStereo() > _SPECIFIED]
    atoms, bonds = [0] * mol.GetNumAtoms(), [0] * mol.GetNumBonds()
    if not centres and not doubles:
        return atoms, bonds
    labelled: list[Any] = [*centres, *doubles]
    for thing in labelled:
        thing.ClearProp("_CIPCode")  # of the older rules, set on parsing
    try:
        rdCIPLabeler.AssignCIPLabels(mol, maxRecursiveIterations=CIP_EFFORT)
        named = True
    except RuntimeError:
        named = False
    relative = relative_labels(mol, {atom.GetIdx(): _cip(atom) for atom in centres} if named else {})
    for things, values, names in ((centres, atoms, CHIRALITY), (doubles, bonds, BOND_STEREO)):
        for thing in things:
            label = _cip(thing) if named else ""
            if things is centres:
                label = relative.get(thing.GetIdx(), label)
            values[thing.GetIdx()] = names.index(label) if label and label in names else len(names)
    return atoms, bonds


def _cip(thing: Any) -> str:
    return str(thing.GetProp("_CIPCode")) if thing.HasProp("_CIPCode") else ""
