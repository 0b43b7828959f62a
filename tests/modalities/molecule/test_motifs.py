"""Motifs: a partition of the atoms, the same for every order of them."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from modalities.molecule import MODALITY
from modalities.molecule.sample import MOTIFS, Molecule

Chem = pytest.importorskip("rdkit.Chem")


def pieces(smiles: str) -> list[str]:
    """The motifs as SMILES of their atoms."""
    molecule, mol = MODALITY.read(smiles), Chem.MolFromSmiles(smiles)
    members = [np.flatnonzero(molecule.motif == motif).tolist() for motif in range(len(molecule.motif_ids))]
    return sorted(Chem.MolFragmentToSmiles(mol, atoms, isomericSmiles=False) for atoms in members)


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("C", ["C"]),
        ("[Na+].[Cl-]", ["[Cl-]", "[Na+]"]),
        ("CCCCCCO", ["CCCCCCO"]),
        ("C1CC2CCC1CC2", ["C1CC2CCC1CC2"]),  # one ring system stays whole
        ("C1CCC2(CC1)CCCC2", ["C1CCC2(CC1)CCCC2"]),  # and so do rings that share one atom
        ("c1ccccc1-c1ccccc1", ["c1ccccc1", "c1ccccc1"]),
        ("c1ccccc1N=Nc1ccccc1", ["N=N", "c1ccccc1", "c1ccccc1"]),  # BRICS cuts no bond of this one
        ("Cc1ccccc1N=Nc1ccccc1", ["Cc1ccccc1", "N=N", "c1ccccc1"]),  # a methyl group lies on no way between rings
        ("CCCc1ccccc1", ["CCC", "c1ccccc1"]),
        ("CC(=O)Oc1ccccc1C(=O)O", ["CC=O", "O", "O=CO", "c1ccccc1"]),  # aspirin, as BRICS cuts it
    ],
)
def test_motifs_of_known_molecules(smiles: str, expected: list[str]) -> None:
    assert pieces(smiles) == expected


def test_every_atom_belongs_to_one_motif(corpus: Callable[[int], list[str]]) -> None:
    for smiles in corpus(300):
        molecule = MODALITY.read(smiles)
        assert set(molecule.motif.tolist()) == set(range(len(molecule.motif_ids)))
        assert len(molecule.motif) == len(molecule.atoms)
        assert (molecule.motif_ids > 0).all()
        assert (molecule.motif_ids < MOTIFS).all()
        for motif in range(len(molecule.motif_ids)):  # each hangs together
            assert _connected(molecule, np.flatnonzero(molecule.motif == motif).tolist())


def _connected(molecule: Molecule, atoms: list[int]) -> bool:
    reached, left = {atoms[0]}, set(atoms)
    edges = [pair for pair in molecule.ends.tolist() if left.issuperset(pair)]
    for _ in atoms:
        reached |= {end for pair in edges if reached.intersection(pair) for end in pair}
        if reached == left:
            return True
    return reached == left


def test_brics_bonds_equal_those_of_rdkit(corpus: Callable[[int], list[str]]) -> None:
    from rdkit.Chem import BRICS

    from modalities.molecule.chem.motifs import brics_bonds

    cuts = 0
    for smiles in corpus(300):
        mol = Chem.MolFromSmiles(smiles)
        pairs = [[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] for bond in mol.GetBonds()]
        rings = {bond for ring in mol.GetRingInfo().BondRings() for bond in ring}
        ours = {frozenset(pairs[bond]) for bond in brics_bonds(mol, pairs, rings)}
        assert ours == {frozenset(atoms) for atoms, _ in BRICS.FindBRICSBonds(mol)}, smiles
        cuts += len(ours)
    assert cuts > 300


def described(molecule: Molecule) -> Counter[tuple[object, ...]]:
    """Everything about a molecule that does not depend on the order of its atoms."""
    atoms = [tuple(row) for row in molecule.atoms.tolist()]
    facts: Counter[tuple[object, ...]] = Counter(("atom", *row) for row in atoms)
    for (a, b), row in zip(molecule.ends.tolist(), molecule.bonds.tolist(), strict=True):
        facts["bond", *row, *sorted((atoms[a], atoms[b]))] += 1
    for place, name in enumerate(molecule.motif_ids.tolist()):
        facts["motif", name, *sorted(atoms[atom] for atom in np.flatnonzero(molecule.motif == place))] += 1
    return facts


def test_no_field_and_no_motif_depends_on_the_order_of_atoms(corpus: Callable[[int], list[str]]) -> None:
    rng = np.random.default_rng(0)
    for smiles in corpus(200):
        mol = Chem.MolFromSmiles(smiles)
        expected = described(MODALITY.read(smiles))
        random = Chem.MolToRandomSmilesVect(mol, 1, randomSeed=int(rng.integers(1 << 30)))[0]
        assert described(MODALITY.read(random)) == expected, smiles
        shuffled = Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist())
        assert described(MODALITY.read(shuffled)) == expected, smiles


def test_the_identity_is_the_same_on_every_machine() -> None:
    """Python's own hash is salted: these numbers are in saved weights."""
    from modalities.molecule.chem.motifs import identity

    assert [identity(smiles) for smiles in ("*c1ccccc1", "C", "[Na+]")] == [IDS["phenyl"], IDS["C"], IDS["Na"]]
    both = MODALITY.read("c1ccccc1-c1ccccc1").motif_ids
    assert both.tolist() == [IDS["phenyl"]] * 2
    assert MODALITY.read("Cc1ccccc1-c1ccccc1").motif_ids[1] == IDS["phenyl"]
    assert MODALITY.read("C[C@H](N)C(=O)O").motif_ids.tolist() == MODALITY.read("C[C@@H](N)C(=O)O").motif_ids.tolist()


IDS = {"phenyl": 3171, "C": 63, "Na": 2041}
