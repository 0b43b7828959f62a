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
from modalities.molecule.chem.featurise import featurise
from modalities.molecule.chem.fingerprint import parsed_counts
from modalities.molecule.chem.inchikey import inchikeys
from modalities.molecule.sample import (
    ATOM_FIELDS,
    ATOM_SIZES,
    BOND_FIELDS,
    BOND_SIZES,
    CHIRALITY,
    MAX_ATOMS,
    MAX_TEXT,
    Molecule,
)

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
        ("C(C", "got an unmatched round bracket"),
        (")C(", "got an unmatched round bracket"),
        ("[Na", "got an unmatched square bracket"),
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
    with pytest.raises(BadSample, match="a device or pipe"):
        MODALITY.read(tmp_path / "pipe.mol")


def test_every_accepted_type_of_molecule(tmp_path: Path) -> None:
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


def test_molecule_is_hashable_picklable_and_compact() -> None:
    one, other = MODALITY.read("CCO"), MODALITY.read("CCN")
    assert one == MODALITY.read("CCO") != other
    assert one != "CCO"
    assert len({one, MODALITY.read("CCO"), other}) == 2
    assert pickle.loads(pickle.dumps(one)) == one
    for name in ("atoms", "bonds", "ends", "motif", "motif_ids"):
        assert getattr(one, name).dtype == np.int16
    assert one.nbytes == 3 + 2 * (3 * 10 + 2 * 4 + 2 * 2 + 3 + 1)


@pytest.mark.parametrize("smiles", ODD)
def test_unusual_molecules_are_read(smiles: str) -> None:
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


def test_rdkit_messages_are_suppressed_only_here(capfd: pytest.CaptureFixture[str]) -> None:
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


def same(first: str, second: str) -> bool:
    one, two = MODALITY.read(first), MODALITY.read(second)
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("atoms", "bonds", "ends"))


@pytest.mark.parametrize("group", ["&1:1", "o1:1", "r", "r:1", "&1:1,r"])
def test_mirror_images_of_a_relative_group_are_equal(group: str) -> None:
    left, right, pure = f"C[C@H](F)Cl |{group}|", f"C[C@@H](F)Cl |{group}|", "C[C@H](F)Cl"
    assert same(left, right)
    assert not same(left, pure)
    assert not same(left, "CC(F)Cl")


@pytest.mark.parametrize("group", ["&1:1,3", "o1:1,3", "r"])
def test_diastereomers_of_a_relative_group_differ(group: str) -> None:
    smiles = [f"C[C@{a}H](F)[C@{b}H](Cl)Br |{group}|" for a in ("", "@") for b in ("", "@")]
    assert same(smiles[0], smiles[3])
    assert same(smiles[1], smiles[2])
    assert not same(smiles[0], smiles[1])
    two_groups = [text.replace(f"|{group}|", "|&1:1,&2:3|") for text in smiles]
    assert all(same(two_groups[0], text) for text in two_groups)


def test_an_absolute_group_is_the_molecule_itself() -> None:
    assert same("C[C@H](F)Cl |a:1|", "C[C@H](F)Cl")
    assert same("C[C@H](F)Cl |$;a,r,b;;$|", "C[C@H](F)Cl")  # a label that is called r


@pytest.mark.parametrize("word", ["STERAC1", "STEREL1"])
def test_enhanced_stereo_of_a_v3000_block(word: str) -> None:
    blocks = [
        Chem.MolToV3KMolBlock(Chem.MolFromSmiles(smiles)).replace("STERAC1", word)
        for smiles in ("C[C@H](F)Cl |&1:1|", "C[C@@H](F)Cl |&1:1|")
    ]
    assert word in blocks[0]
    assert same(*blocks)
    assert not same(blocks[0], Chem.MolToV3KMolBlock(Chem.MolFromSmiles("C[C@H](F)Cl")))
    assert "|" in MODALITY.read(blocks[0]).smiles
    assert not same(Chem.MolToV3KMolBlock(Chem.MolFromSmiles("C[C@H](F)Cl |&1:1|")), "C[C@H](F)Cl")


def test_relative_labels_do_not_depend_on_the_order_of_the_atoms() -> None:
    """Also of groups with equivalent atoms: tartaric acid as a racemate, and its meso form."""
    rng = np.random.default_rng(0)
    for text in (
        "OC(=O)[C@H](O)[C@@H](O)C(O)=O |&1:3,5|", "OC(=O)[C@H](O)[C@H](O)C(O)=O |&1:3,5|",
        "C[C@H](F)[C@H](Cl)[C@@H](Br)I |&1:1,3,5|", "C[C@H]1CC[C@@H](C)CC1 |o1:1,4|",
    ):  # fmt: skip
        mol = Chem.MolFromSmiles(text)
        atoms = sorted(map(tuple, MODALITY.read(mol).atoms.tolist()))
        for _ in range(5):
            turned = Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist())
            assert sorted(map(tuple, MODALITY.read(turned).atoms.tolist())) == atoms


def test_fingerprints_and_keys_of_mirror_images_are_equal() -> None:
    left, right, pure = "C[C@H](F)Cl |&1:1|", "C[C@@H](F)Cl |&1:1|", "C[C@H](F)Cl"
    counts = [parsed_counts(text, 2048, ["morgan"])["morgan"] for text in (left, right, pure)]
    assert counts[0][0].tolist() == counts[1][0].tolist() != counts[2][0].tolist()
    keys = inchikeys([left, right, pure])
    assert keys[0] == keys[1] != keys[2]


BLOCK = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))


@pytest.mark.parametrize(
    "record",
    [
        (BLOCK + ">  <NAME>\nWei\xdf\n\n$$$$\n").encode("latin-1"),
        ("Wei\xdf" + BLOCK).encode("latin-1"),
        (BLOCK + ">  <P>\n" + "1 2\n" * 40_000).encode(),
        ("\ufeff" + BLOCK).encode(),
        BLOCK.replace("\n", "\r\n").encode(),
        (BLOCK + ">  <PRICE>\n5 $$$$ or more\n\n$$$$\n").encode(),
    ],
)
def test_what_follows_the_block_does_not_matter(record: bytes, tmp_path: Path) -> None:
    (tmp_path / "one.sdf").write_bytes(record)
    sources = [record, tmp_path / "one.sdf"]
    for source in sources:
        assert MODALITY.read(source) == MODALITY.read(BLOCK)
    with pytest.raises(BadSample, match="several"):
        MODALITY.read(record + b"\n$$$$\n" + BLOCK.encode())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BLOCK.split("M  END")[0], "without the line M  END"),
        (BLOCK.replace("M  END", "\nM  END"), "line 10, which is no property: ''"),
        (BLOCK.replace(" C ", " ", 1).replace("0.0000", "x", 3), "line 5, which is no atom"),
        (BLOCK.replace("  1  2  1  0", "  a  2  1  0"), "line 8, which is no bond"),
        (BLOCK.replace("V2000", "V3000"), "a V3000 block that it refuses"),
        ("a\nb\nc\nd\ne\n", "fourth line is no counts line: 'd'"),
        ("a\nb\n", "fourth line is no counts line"),
    ],
)
def test_a_damaged_block_is_described(text: str, words: str) -> None:
    with pytest.raises(BadSample) as caught:
        MODALITY.read(text)
    assert words in str(caught.value)


def test_a_double_bond_of_either_side_has_no_label() -> None:
    """A wavy bond states that the side is not known: STEREOANY."""
    either = Chem.MolFromSmiles("CC=CC |w:1.0|")
    assert either.GetBondWithIdx(1).GetStereo() == Chem.BondStereo.STEREOANY
    np.testing.assert_array_equal(MODALITY.read("CC=CC |w:1.0|").bonds, MODALITY.read("CC=CC").bonds)
    assert (MODALITY.read("C/C=C/C").bonds != MODALITY.read("CC=CC").bonds).any()


def test_labels_of_older_rules_are_not_kept() -> None:
    """A centre that today's rules do not label has no label, whatever a program has set before."""
    mol = Chem.MolFromSmiles("CC(C)O")
    centre = mol.GetAtomWithIdx(1)
    centre.SetChiralTag(Chem.ChiralType.CHI_TETRAHEDRAL_CW)
    unlabelled = featurise(mol, "CC(C)O").atoms[1, -1]
    centre.SetProp("_CIPCode", "R")
    assert featurise(mol, "CC(C)O").atoms[1, -1] == unlabelled == 1 + len(CHIRALITY)
