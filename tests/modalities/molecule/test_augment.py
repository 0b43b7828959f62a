"""Views of molecules: connected subgraphs, removed atoms, bonds that keep their fields."""

import numpy as np
import pytest

from mmalign.errors import UserError
from modalities.molecule.augment import random_subgraph, with_atoms, without_atoms
from modalities.molecule.read import read_molecule
from modalities.molecule.sample import Molecule
from modalities.molecule.transform import MoleculeSettings, MoleculeTransform

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def connected(molecule: Molecule) -> bool:
    reached, before = {0}, 0
    while len(reached) > before:
        before = len(reached)
        for start, end in molecule.ends.tolist():
            reached |= {start, end} if reached & {start, end} else set()
    return len(reached) == len(molecule.atoms)


def numbered(molecule: Molecule) -> Molecule:
    """Atoms and bonds that show who they were: the field 0 of an atom is its number, of a bond the two atoms'."""
    molecule.atoms[:, 0] = np.arange(len(molecule.atoms))
    molecule.bonds[:, 0] = molecule.ends[:, 0] * 100 + molecule.ends[:, 1]
    return molecule


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8, 1.0])
def test_a_subgraph_is_connected_and_has_its_size_and_its_bonds(fraction: float) -> None:
    molecule, rng, found = numbered(read_molecule(ASPIRIN)), np.random.default_rng(0), set()
    for _ in range(30):
        part = random_subgraph(molecule, fraction, rng)
        assert connected(part)
        assert len(part.atoms) == np.ceil(fraction * len(molecule.atoms))
        atoms = part.atoms[:, 0]
        for (start, end), bond in zip(part.ends.tolist(), part.bonds[:, 0].tolist(), strict=True):
            assert bond == atoms[start] * 100 + atoms[end]
        inside = set(atoms.tolist())
        assert len(part.ends) == sum({a, b} <= inside for a, b in molecule.ends.tolist())
        assert set(part.motif.tolist()) == set(range(len(part.motif_ids)))
        found.add(tuple(atoms.tolist()))
    assert (len(found) > 1) == (fraction < 1)


def test_a_motif_that_loses_atoms_has_an_unknown_identity() -> None:
    molecule = read_molecule(ASPIRIN)
    keeps = molecule.motif != molecule.motif[0]
    lost = with_atoms(molecule, keeps)
    assert len(lost.motif_ids) == len(molecule.motif_ids) - 1
    assert (lost.motif_ids > 0).all()
    ring = np.flatnonzero(np.bincount(molecule.motif) > 1)[0]
    keeps = np.ones(len(molecule.atoms), dtype=bool)
    keeps[np.flatnonzero(molecule.motif == ring)[0]] = False
    part = with_atoms(molecule, keeps)
    assert part.motif_ids[ring] == 0
    assert (np.delete(part.motif_ids, ring) == np.delete(molecule.motif_ids, ring)).all()


def test_removal_leaves_one_atom_and_salts_stay_valid() -> None:
    rng = np.random.default_rng(0)
    sizes = [len(without_atoms(read_molecule(ASPIRIN), 0.2, rng).atoms) for _ in range(200)]
    assert abs(np.mean(sizes) - (13 * 0.8 + 0.2)) < 0.4
    assert len(without_atoms(read_molecule("C"), 0.9, rng).atoms) == 1
    assert {len(random_subgraph(read_molecule("[Na+].CC"), 0.7, rng).atoms) for _ in range(20)} == {1, 2}


def test_training_sees_subgraphs_and_evaluation_the_molecule() -> None:
    transform = MoleculeTransform(MoleculeSettings(subgraph=0.5, atom_removal=0.2))
    molecule = read_molecule(ASPIRIN)
    items = [transform.item(molecule, np.random.default_rng(seed)) for seed in range(8)]
    assert all(len(item.atoms) < len(molecule.atoms) for item in items)
    transform.collate(items)
    assert len(transform.item(molecule).atoms) == len(molecule.atoms)
    restored = MoleculeTransform.restore(transform.config())
    assert restored.settings == transform.settings


def test_settings_are_checked() -> None:
    for wrong, message in (
        ({"subgraph": 0.0}, "subgraph must be"),
        ({"atom_removal": 1.0}, "atom_removal must be"),
        ({"subgraph": 0.8, "fingerprint": 2048}, "fingerprints are counted from the whole molecule"),
    ):
        with pytest.raises(UserError, match=message):
            MoleculeSettings(**wrong)  # type: ignore[arg-type]
