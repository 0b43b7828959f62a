"""Named functional groups: atoms by hand, every pattern matches its own example, words by their form."""

import pytest

pytest.importorskip("rdkit")

from modalities.molecule import MODALITY
from modalities.molecule.chem.functional_groups import GROUPS, groups_of, named_group

EXAMPLES = {
    "hydroxy": "CO", "alcohol": "CO", "phenol": "Oc1ccccc1", "carboxylic acid": "CC(=O)O", "carboxylate": "CC(=O)[O-]",
    "ester": "CC(=O)OC", "lactone": "O=C1CCCO1", "ether": "COC", "methoxy": "COC", "ketone": "CC(C)=O", "oxo": "CC=O",
    "aldehyde": "CC=O", "acetyl": "CC(=O)N", "amide": "CC(N)=O", "lactam": "O=C1CCCN1", "amine": "CN", "amino": "CN",
    "ammonium": "C[NH3+]", "imine": "CC=N", "oxime": "CC=NO", "hydrazine": "NN", "urea": "NC(N)=O",
    "guanidine": "NC(N)=N", "carbamate": "NC(=O)OC", "nitrile": "CC#N", "nitro": "C[N+](=O)[O-]",
    "sulfate": "OS(O)(=O)=O", "sulfonic acid": "CS(O)(=O)=O", "sulfonamide": "CS(N)(=O)=O", "sulfone": "CS(C)(=O)=O",
    "sulfide": "CSC", "thiol": "CS", "phosphate": "OP(O)(O)=O", "epoxide": "C1CO1", "fluorine": "CF",
    "chlorine": "CCl", "bromine": "CBr", "iodine": "CI", "methyl": "CC", "trifluoromethyl": "CC(F)(F)F",
    "benzene": "c1ccccc1", "pyridine": "c1ccncc1", "pyrimidine": "c1cncnc1", "pyrrole": "c1cc[nH]c1",
    "imidazole": "c1c[nH]cn1", "pyrazole": "c1cn[nH]c1", "indole": "c1ccc2[nH]ccc2c1", "purine": "c1ncc2nc[nH]c2n1",
    "furan": "c1ccoc1", "thiophene": "c1ccsc1", "thiazole": "c1cscn1", "piperidine": "C1CCNCC1",
    "piperazine": "C1CNCCN1", "pyrrolidine": "C1CCNC1", "morpholine": "C1COCCN1",
}  # fmt: skip


def test_every_group_is_in_its_example() -> None:
    assert set(EXAMPLES) == set(GROUPS)
    assert [name for name, smiles in EXAMPLES.items() if name not in groups_of(smiles)] == []


def test_atoms_of_aspirin() -> None:
    groups = {name: atoms.nonzero()[0].tolist() for name, atoms in groups_of("CC(=O)Oc1ccccc1C(=O)O").items()}
    assert groups["methyl"] == [0]
    assert groups["ester"] == [1, 2, 3, 4]
    assert groups["benzene"] == [4, 5, 6, 7, 8, 9]
    assert groups["carboxylic acid"] == [10, 11, 12]
    assert groups["hydroxy"] == [12]
    assert not {"ether", "ketone", "alcohol", "phenol", "aldehyde", "amine"} & set(groups)


def test_an_amide_is_no_amine_and_a_carboxylic_acid_no_alcohol() -> None:
    assert "amine" not in groups_of("CC(=O)NC")
    assert "alcohol" not in groups_of("CC(=O)O")
    assert groups_of("not a molecule") == {}


@pytest.mark.parametrize(
    ("word", "name"),
    [("Hydroxy", "hydroxy"), ("dihydroxy", "hydroxy"), ("(esters),", "ester"), ("phenyl", "benzene"), ("acid", None),
     ("carboxylic", "carboxylic acid"), ("hydroxyflavone", None), ("trifluoromethyl", "trifluoromethyl"), ("", None)],
)  # fmt: skip
def test_named_group_of_a_word(word: str, name: str | None) -> None:
    assert named_group(word) == name
    assert MODALITY.region_of_word(word) == name


def test_regions_have_one_entry_per_atom() -> None:
    sample = MODALITY.read("[H]OCC[C@H](N)Cl")
    regions = MODALITY.named_regions(sample)
    assert {len(atoms) for atoms in regions.values()} == {len(sample.atoms)}
    assert {"alcohol", "amine", "chlorine"} <= set(regions)
