"""Reading molecules: what comes in, what is refused and why, what the fields say."""

import os
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mmalign.errors import BadSample
from modalities.molecule import MODALITY
from modalities.molecule.sample import ATOM_FIELDS, ATOM_SIZES, BOND_FIELDS, BOND_SIZES, MAX_ATOMS, MAX_TEXT, Molecule

Chem = pytest.importorskip("rdkit.Chem")

ODD = ("[H+]", "[H][H]", "[He]", "*", "[Na+].[Cl-]", "[Fe+2].[Cl-].[Cl-]", "[2H]O[2H]", "[131I-]", "[CH3]", "[1*]CC",
       "N[Pt](N)(Cl)Cl", "[U]", "C" * 600, "OC(=O)CC(O)(C(O)=O)CC(O)=O.[K+].[K+]")  # fmt: skip


def field(molecule: Molecule, name: str) -> list[int]:
    """Values of a field; None in place of those that are not known."""
    table, ranges = (molecule.atoms, ATOM_FIELDS) if name in ATOM_FIELDS else (molecule.bonds, BOND_FIELDS)
    return (table[:, list(ranges).index(name)] - 1 + ranges[name][0]).tolist()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "an empty text"),
        (" \n ", "an empty text"),
        (None, "got nothing"),
        (7, "got a int"),
        (b"", "an empty text"),
        (b"\xff\xfe", "bytes that are no text"),
        ("C1CC", "got ring bond 1 that is not closed"),
        ("C%12CC", "got ring bond 12 that is not closed"),
        ("C(C", "got a round bracket without its partner"),
        (")C(", "got a round bracket without its partner"),
        ("[Na", "got a square bracket without its partner"),
        ("c1cccc1", "kekulize"),
        ("C(C)(C)(C)(C)C", "valence for atom # 0 C, 5"),
        ("O=Cl(=O)(=O)F", "valence for atom # 1 Cl, 7"),  # a row of PCdes
        ("hello", "got a text that is none"),
        ("CCO ethanol", "more text after it: 'ethanol'"),
        ("C\0C", "control characters"),
        ("C\tC", "control characters"),
        ("C" * (MAX_ATOMS + 1), f"1..{MAX_ATOMS} atoms, got {MAX_ATOMS + 1}"),
        ("C" * MAX_TEXT, f"1..{MAX_ATOMS} atoms, got {MAX_TEXT}"),
        ("C" * (MAX_TEXT + 1), f"at most {MAX_TEXT} characters, got {MAX_TEXT + 1}"),
        ("C(" * 20_000 + ")" * 20_000, "SMILES"),
        ("two\nlines", "a MOL block"),
        ("nowhere.mol", "no such file"),
        (Path("nowhere.sdf"), "no such file"),
    ],
)
def test_invalid_molecules_are_rejected(source: object, message: str) -> None:
    with pytest.raises(BadSample) as caught:
        MODALITY.read(source)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_no_input_gives_an_empty_graph(tmp_path: Path) -> None:
    empty = Chem.MolToMolBlock(Chem.MolFromSmiles(""))
    (tmp_path / "none.mol").write_text(empty)
    for source in (empty, tmp_path / "none.mol", str(tmp_path / "none.mol"), Chem.MolFromSmiles("")):
        with pytest.raises(BadSample, match="atoms, got 0"):
            MODALITY.read(source)
    (tmp_path / "empty.mol").touch()
    with pytest.raises(BadSample, match="an empty text"):
        MODALITY.read(tmp_path / "empty.mol")
    with pytest.raises(BadSample, match="a folder"):
        MODALITY.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.mol")
    with pytest.raises(BadSample, match="no such file"):
        MODALITY.read(tmp_path / "pipe.mol")


def test_every_way_to_bring_a_molecule(tmp_path: Path) -> None:
    smiles = "C[C@H](N)C(=O)O"
    mol = Chem.MolFromSmiles(smiles)
    block = Chem.MolToMolBlock(mol)
    (tmp_path / "one.mol").write_text(block)
    (tmp_path / "one.SDF").write_text(block + ">  <NAME>\nalanine\n\n$$$$\n")
    expected = MODALITY.read(smiles)
    sources = (
        smiles.encode(), bytearray(smiles.encode()), f"  {smiles}\n", mol, Chem.AddHs(mol), block, block.encode(),
        block + "$$$$\n", tmp_path / "one.mol", str(tmp_path / "one.mol"), tmp_path / "one.SDF",
        Chem.MolToV3KMolBlock(mol), expected, f"{smiles} |$a;;;;;$|",
    )  # fmt: skip
    for source in sources:
        found = MODALITY.read(source)
        for name in ("atoms", "bonds", "ends", "motif", "motif_ids"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert MODALITY.read(expected) is expected
    # The doubled backslash of the corpus.
    np.testing.assert_array_equal(MODALITY.read("C\\\\C=C/C").bonds, MODALITY.read("C\\C=C/C").bonds)


def test_a_molecule_is_small_plain_and_comparable() -> None:
    one, other = MODALITY.read("CCO"), MODALITY.read("CCN")
    assert one == MODALITY.read("CCO") != other
    assert one != "CCO"
    assert len({one, MODALITY.read("CCO"), other}) == 2
    assert pickle.loads(pickle.dumps(one)) == one
    for name in ("atoms", "bonds", "ends", "motif", "motif_ids"):
        assert getattr(one, name).dtype == np.int16
    assert one.nbytes == 3 + 2 * (3 * 10 + 2 * 4 + 2 * 2 + 3 + 1)


@pytest.mark.parametrize("smiles", ODD)
def test_odd_molecules_pass(smiles: str) -> None:
    molecule = MODALITY.read(smiles)
    mol = Chem.MolFromSmiles(smiles)
    assert molecule.atoms.shape == (mol.GetNumAtoms(), len(ATOM_SIZES))
    assert molecule.bonds.shape == (mol.GetNumBonds(), len(BOND_SIZES))
    assert molecule.ends.shape == (mol.GetNumBonds(), 2)
    assert (molecule.atoms >= 0).all()
    assert (molecule.atoms < ATOM_SIZES).all()
    assert (molecule.bonds < BOND_SIZES).all()


def test_fields_equal_rdkit() -> None:
    molecule = MODALITY.read("[13CH3]C(=O)[O-]")
    assert field(molecule, "element") == [6, 6, 8, 8]
    assert field(molecule, "degree") == [1, 3, 1, 1]
    assert field(molecule, "charge") == [0, 0, 0, -1]
    assert field(molecule, "hydrogens") == [3, 0, 0, 0]
    assert field(molecule, "isotope") == [10, 0, 0, 0]
    assert field(molecule, "type") == [1, 2, 1]
    assert field(molecule, "conjugated") == [0, 1, 1]
    assert field(MODALITY.read("[12CH4]"), "isotope") == [9]  # the common one, but said
    assert field(MODALITY.read("[999C]"), "isotope") == [-1]  # the bucket of what is not known
    assert field(MODALITY.read("[CH3]"), "radicals") == [1]
    assert field(MODALITY.read("c1ccccc1C"), "aromatic") == [1] * 6 + [0]
    assert field(MODALITY.read("C1CC1C"), "ring") == [1, 1, 1, 0]
    assert field(MODALITY.read("C/C=C/C"), "stereo") == [0, 1, 0]
    assert field(MODALITY.read("C/C=C\\C"), "stereo") == [0, 2, 0]
    assert field(MODALITY.read("CC=CC"), "stereo") == [0, 0, 0]
    assert field(MODALITY.read("N[C@@H](C)C(=O)O"), "chirality") == [0, 2, 0, 0, 0, 0]  # L-alanine is S
    assert field(MODALITY.read("N[C@H](C)C(=O)O"), "chirality") == [0, 1, 0, 0, 0, 0]
    assert field(MODALITY.read("NC(C)C(=O)O"), "chirality") == [0] * 6
    # Two ends that differ by chirality alone make a centre that a mirror does not change.
    meso = field(MODALITY.read("C[C@H](O)[C@H](O)[C@@H](C)O"), "chirality")
    assert {3, 4} & set(meso)


def test_fields_are_those_of_from_smiles(corpus: Callable[[int], list[str]]) -> None:
    """Where PyG has the same field, on molecules of all kinds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smiles_utils = pytest.importorskip("torch_geometric.utils.smiles")
    for smiles in (*ODD[:-3], *corpus(200)):
        peer, ours = smiles_utils.from_smiles(smiles), MODALITY.read(smiles)
        theirs = {
            name: [values[place] for place in peer.x[:, column].tolist()]
            for column, (name, values) in enumerate(smiles_utils.x_map.items())
        }
        for name, key in {
            "element": "atomic_num", "charge": "formal_charge", "hydrogens": "num_hs",
            "radicals": "num_radical_electrons", "aromatic": "is_aromatic", "ring": "is_in_ring",
        }.items():  # fmt: skip
            assert field(ours, name) == theirs[key], (smiles, name)
        total = [a + b for a, b in zip(field(ours, "degree"), field(ours, "hydrogens"), strict=True)]
        assert total == theirs["degree"]  # theirs counts hydrogens too
        names = [str(Chem.HybridizationType.values[value]) for value in field(ours, "hybridisation")]
        assert names == theirs["hybridization"]
        both = {tuple(edge) for edge in np.concatenate((ours.ends, ours.ends[:, ::-1])).tolist()}
        assert both == {tuple(edge) for edge in peer.edge_index.T.tolist()}
        edges = zip(peer.edge_index.T.tolist(), peer.edge_attr.tolist(), strict=True)
        kinds = {tuple(end): (row[0], bool(row[2])) for end, row in edges}
        bonds = zip(ours.ends.tolist(), field(ours, "type"), field(ours, "conjugated"), strict=True)
        for end, kind, conjugated in bonds:
            expected = smiles_utils.e_map["bond_type"].index(str(Chem.BondType.values[kind]))
            assert kinds[tuple(end)] == (expected, bool(conjugated))


def test_the_log_of_rdkit_is_held_back_here_alone(capfd: pytest.CaptureFixture[str]) -> None:
    from rdkit import rdBase

    rdBase.EnableLog("rdApp.error")
    bad = ["C1CC", "C(C)(C)(C)(C)C", "CCO"] * 50
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda smiles: isinstance(_try(smiles), Molecule), bad))
    assert found == [False, False, True] * 50
    assert capfd.readouterr() == ("", "")
    Chem.MolFromSmiles("C1CC")
    assert "unclosed ring" in capfd.readouterr().err


def _try(smiles: str) -> object:
    try:
        return MODALITY.read(smiles)
    except BadSample as error:
        return error


def test_slow_stereo_assignment_gives_an_unlabelled_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    from modalities.molecule.chem import featurise

    monkeypatch.setattr(featurise, "CIP_EFFORT", 1)
    molecule = MODALITY.read("C[C@H](O)CC/C=C/C")
    assert 5 in field(molecule, "chirality")
    assert 9 in field(molecule, "stereo")
