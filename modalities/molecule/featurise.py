"""An rdkit molecule -> fields of its atoms and bonds, all of them independent of the order of the atoms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdCIPLabeler

from modalities.molecule.molecule import (
    ATOM_FIELDS,
    BOND_FIELDS,
    BOND_STEREO,
    CHIRALITY,
    Molecule,
    buckets,
)
from modalities.molecule.motifs import motifs

VERSION = 1
"""Raised whenever the same molecule would give other numbers: what was stored is then made anew."""

CIP_EFFORT = 100_000
"""Steps that the CIP rules may take on one molecule, about 0.1 s; most need under 10,000."""

_TABLE = Chem.GetPeriodicTable()
_COMMON = np.array([0, *(_TABLE.GetMostCommonIsotope(number) for number in range(1, 119))])
_AROMATIC, _DOUBLE = int(Chem.BondType.AROMATIC), Chem.BondType.DOUBLE
_SPECIFIED = int(Chem.BondStereo.STEREOANY)  # rdkit's numbers above this one say which side is which


def featurise(mol: Chem.Mol, smiles: str, *, stereo: bool = True, parts: bool = True) -> Molecule:
    """Fields, CIP labels and motifs of a sanitised molecule, in the order of its atoms.

    Args:
        mol: The molecule.
        smiles: What to call it.
        stereo: False where it is known to have no stereo centre, or none is wanted: saves the CIP labels.
        parts: False = one motif for the whole molecule, without identity: saves the cutting.
    """
    rings = mol.GetRingInfo().BondRings()
    atoms, bonds, ends = graph_fields(mol, rings)
    if stereo:
        atoms[:, -1], bonds[:, 1] = _labels(mol)
    where, ids = motifs(mol, ends, rings) if parts else (np.zeros(len(atoms), np.int16), np.zeros(1, np.int16))
    ready = buckets(atoms, ATOM_FIELDS), buckets(bonds, BOND_FIELDS), ends.astype(np.int16)
    return Molecule(smiles, *ready, where, ids)


def graph_fields(
    mol: Chem.Mol, rings: tuple[tuple[int, ...], ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Values of the atoms' and bonds' fields without stereo, and the bonds' ends.

    A call for each atom and field is what costs time: degree, aromaticity and rings come from the bonds at once.
    """
    flat = [
        value
        for atom in mol.GetAtoms()
        for value in (
            atom.GetAtomicNum(),
            atom.GetFormalCharge(),
            atom.GetTotalNumHs(),
            atom.GetNumRadicalElectrons(),
            atom.GetHybridization(),
            atom.GetIsotope(),
        )
    ]
    element, charge, hydrogens, radicals, hybridisation, isotope = np.array(flat, np.int64).reshape(-1, 6).T
    flat = [
        value
        for bond in mol.GetBonds()
        for value in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondType(), bond.GetIsConjugated())
    ]
    table = np.array(flat, np.int64).reshape(-1, 4)
    ends, count = table[:, :2], len(element)
    ring = np.zeros(len(table), np.int64)
    ring[[place for one in rings for place in one]] = 1
    atoms = np.zeros((count, len(ATOM_FIELDS)), np.int64)
    atoms[:, 0] = element
    atoms[:, 1] = np.bincount(ends.ravel(), minlength=count)
    atoms[:, 2] = charge
    atoms[:, 3] = hydrogens
    atoms[:, 4] = radicals
    atoms[:, 5] = hybridisation
    atoms[ends[table[:, 2] == _AROMATIC].ravel(), 6] = 1
    atoms[ends[ring == 1].ravel(), 7] = 1
    excess = isotope - _COMMON[element]
    atoms[:, 8] = np.where(isotope == 0, 0, np.where(abs(excess) > 8, -1, 9 + excess))
    bonds = np.stack((table[:, 2], np.zeros(len(table), np.int64), table[:, 3], ring), axis=1)
    return atoms, bonds, ends


def _labels(mol: Chem.Mol) -> tuple[list[int], list[int]]:
    """CIP labels of atoms and bonds by value (Hanson et al. 2018, doi 10.1021/acs.jcim.8b00324).

    A centre that the rules cannot name, or not within their effort, gets the last value.
    """
    centres = [atom for atom in mol.GetAtoms() if atom.GetChiralTag()]
    doubles = [bond for bond in mol.GetBonds() if int(bond.GetStereo()) > _SPECIFIED]
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
    for things, values, names in ((centres, atoms, CHIRALITY), (doubles, bonds, BOND_STEREO)):
        for thing in things:
            label = thing.GetProp("_CIPCode") if named and thing.HasProp("_CIPCode") else None
            values[thing.GetIdx()] = names.index(label) if label in names else len(names)
    return atoms, bonds
