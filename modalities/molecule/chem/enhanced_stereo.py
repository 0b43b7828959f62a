"""Enhanced stereo: groups of centres of which only the relative configuration is known.

A group is a mixture of both mirror images (`&` in CXSMILES, `STERAC` in V3000 files) or one of the two, unknown which
(`o`, `STEREL`). In both cases a molecule and its mirror image within the group mean the same, so their
features are equal.
"""

import re
from collections import defaultdict

from rdkit import Chem

_RELATIVE = (Chem.StereoGroupType.STEREO_AND, Chem.StereoGroupType.STEREO_OR)
_RACEMIC = re.compile(r"[|,]r(?::([\d,]+))?(?=[,|])")
_ATOM_LABELS = re.compile(r"\$[^$]*\$")
_SAME, _OTHER = "r", "s"
"""Labels of a centre that has, or has not, the CIP label of its group's reference centre."""


def relative_groups(mol: Chem.Mol) -> list[list[int]]:
    """Atoms of each group whose absolute configuration is not known.

    Example:
        >>> relative_groups(Chem.MolFromSmiles("C[C@H](F)Cl |&1:1|"))
        [[1]]
    """
    groups = [group for group in mol.GetStereoGroups() if group.GetGroupType() in _RELATIVE]
    return [[atom.GetIdx() for atom in group.GetAtoms()] for group in groups]


def with_racemic_flag(mol: Chem.Mol, text: str) -> Chem.Mol:
    """The molecule with the `r` of a CXSMILES as a group, which rdkit skips: its atoms, or all centres.

    Args:
        mol: Read from `text`.
        text: The SMILES with its extension in bars.
    """
    flag = _RACEMIC.search(_ATOM_LABELS.sub("", text.partition(" ")[2]))
    if flag is None:
        return mol
    grouped = {atom.GetIdx() for group in mol.GetStereoGroups() for atom in group.GetAtoms()}
    centres = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetChiralTag()]
    named = {int(number) for number in (flag[1] or "").split(",") if number}
    atoms = [index for index in centres if index not in grouped and (not named or index in named)]
    if not atoms:
        return mol
    editable = Chem.RWMol(mol)
    racemic = Chem.CreateStereoGroup(Chem.StereoGroupType.STEREO_AND, editable, atoms)
    editable.SetStereoGroups([*mol.GetStereoGroups(), racemic])
    return editable.GetMol()


def relative_labels(mol: Chem.Mol, labels: dict[int, str]) -> dict[int, str]:
    """Labels of the centres of relative groups, equal for both mirror images.

    The reference centres of a group have no label (""); the labels of the others say whether their CIP label is that of
    the reference. The reference is the first class of equivalent atoms that have one label. A group without such a
    class is its own mirror image and has no labels.

    Args:
        mol: The molecule.
        labels: CIP label of each labelled centre.

    Example:
        >>> mol = Chem.MolFromSmiles("C[C@H](F)[C@H](Cl)Br |&1:1,3|")
        >>> relative_labels(mol, {1: "R", 3: "S"}) == relative_labels(mol, {1: "S", 3: "R"})
        True
    """
    groups = relative_groups(mol)
    if not groups:
        return {}
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False, includeChirality=False))
    relative: dict[int, str] = {}
    for group in groups:
        classes: defaultdict[int, list[int]] = defaultdict(list)
        for atom in group:
            if labels.get(atom) in ("R", "S"):
                classes[ranks[atom]].append(atom)
        uniform = (rank for rank in sorted(classes) if len({labels[atom] for atom in classes[rank]}) == 1)
        first = next(uniform, None)
        for atom in group:
            label = labels.get(atom, "")
            if first is not None and label in ("R", "S") and ranks[atom] != first:
                relative[atom] = _SAME if label == labels[classes[first][0]] else _OTHER
            else:
                relative[atom] = "" if label in ("R", "S") else label
    return relative


def without_relative_stereo(mol: Chem.Mol) -> Chem.Mol:
    """The molecule without the configuration of relative groups, for software that would take it as absolute."""
    groups = relative_groups(mol)
    if not groups:
        return mol
    flat = Chem.RWMol(mol)
    flat.SetStereoGroups([])
    for index in (index for group in groups for index in group):
        flat.GetAtomWithIdx(index).SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    Chem.AssignStereochemistry(flat, cleanIt=True, force=True)
    return flat.GetMol()
