"""Near molecules: another stereo or charge first, never the molecule itself, and the same wherever it is worked out."""

from collections.abc import Callable

import numpy as np
import pytest

from modalities.molecule import MODALITY
from modalities.molecule.chem import neighbours as module
from modalities.molecule.sample import Molecule

pytest.importorskip("rdkit")

R, S, ION, FLAT = "C[C@@H](N)C(=O)O", "C[C@H](N)C(=O)O", "C[C@H]([NH3+])C(=O)[O-]", "CC(N)C(=O)O"


def read(*smiles: str) -> list[Molecule]:
    return [MODALITY.read(one) for one in smiles]


def test_stereo_and_charge_come_before_similarity() -> None:
    family = [R, S, ION, FLAT, "[13CH3]C(N)C(=O)O"]
    near = MODALITY.neighbours(read(*family, "CC(N)C(=O)OC", "CCC(N)C(=O)O", "c1ccccc1"), 4)
    for row in range(5):
        assert sorted(near[row]) == sorted(set(range(5)) - {row})
    assert near[5, 0] not in (5, 7)


def test_a_molecule_is_not_its_own_neighbour_in_any_notation() -> None:
    near = MODALITY.neighbours(read("CCO", "OCC", "C(C)O", "CCN"), 3)
    assert near.tolist() == [[3, -1, -1]] * 3 + [[0, 1, 2]]
    assert MODALITY.neighbours(read("CCO"), 2).tolist() == [[-1, -1]]
    assert MODALITY.neighbours(read("CCO", "OCC"), 1).tolist() == [[-1], [-1]]
    assert MODALITY.neighbours([], 2).shape == (0, 2)
    assert MODALITY.neighbours(read("CCO", "CCN"), 0).shape == (2, 0)


def test_neighbours_of_ions_and_single_atoms() -> None:
    near = MODALITY.neighbours(read("[Na+]", "[Na+].[Cl-]", "[He]", "*", "[Na+].[Br-]"), 5)
    assert near[1, :2].tolist() == [0, 4], "half of what they have, a third"
    assert near[4, :2].tolist() == [0, 1]
    assert all(row not in near[row] for row in range(5))


def test_similarity_is_tanimotos(corpus: Callable[[int], list[str]]) -> None:
    molecules = read(*corpus(120))
    graphs = module._Graphs.of(molecules)
    bits = module._bits(graphs) > 0
    near = MODALITY.neighbours(molecules, 5)
    kin = graphs.names(*module._SKELETON)
    same = graphs.names(*module._ALL)
    for row, own in enumerate(bits):
        scores = [
            -1.0
            if same[row] == same[other]
            else (own & bits[other]).sum() / (own | bits[other]).sum() + (kin[row] == kin[other])
            for other in range(len(bits))
        ]
        expected = sorted(range(len(bits)), key=lambda other: (-np.float32(scores[other]), other))[:5]
        assert near[row].tolist() == expected


def test_environment_counts_are_binned_by_powers_of_two() -> None:
    def bits(smiles: str) -> set[int]:
        return set(np.flatnonzero(module._bits(module._Graphs.of(read(smiles, "C")))[0]).tolist())

    long, longer, longest = bits("C" * 10), bits("C" * 11), bits("C" * 20)
    assert long == longer, "8 inner atoms and 9 are one class"
    assert long < longest


def test_blocks_and_the_order_of_rows_change_nothing(
    corpus: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    molecules = read(*corpus(80))
    whole = MODALITY.neighbours(molecules, 3)
    monkeypatch.setattr(module, "BLOCK", 80 * 7)
    np.testing.assert_array_equal(MODALITY.neighbours(molecules, 3), whole)
    turned = MODALITY.neighbours(molecules[::-1], 1)[::-1, 0]
    graphs = module._Graphs.of(molecules)
    bits = module._bits(graphs) > 0

    def similarity(row: int, other: int) -> float:
        return float((bits[row] & bits[other]).sum() / (bits[row] | bits[other]).sum())

    for row, other in enumerate(79 - turned):
        assert similarity(row, other) == pytest.approx(similarity(row, whole[row, 0])), "another one as near at most"


def test_the_order_of_atoms_changes_no_label(corpus: Callable[[int], list[str]]) -> None:
    from rdkit import Chem

    smiles = corpus(40)
    again = [Chem.MolToSmiles(Chem.MolFromSmiles(one), doRandom=True) for one in smiles]
    one, other = (module._Graphs.of(read(*rows)) for rows in (smiles, again))
    np.testing.assert_array_equal(one.names(*module._ALL), other.names(*module._ALL))
    np.testing.assert_array_equal(module._bits(one), module._bits(other))


def test_molecules_that_differ_in_one_field_differ() -> None:
    rows = [R, S, ION, FLAT, "C/C=C/C", "C/C=C\\C", "[2H]C", "C", "CC=CC", "c1ccccc1", "C1CCCCC1"]
    graphs = module._Graphs.of(read(*rows))
    assert len(set(graphs.names(*module._ALL).tolist())) == len(rows)
    kin = graphs.names(*module._SKELETON).tolist()
    assert kin[0] == kin[1] == kin[2] == kin[3]
    assert kin[4] == kin[5] == kin[8]
    assert len({*kin}) == 6


@pytest.mark.real
def test_variants_of_a_real_corpus_find_each_other(corpus: Callable[[int], list[str]]) -> None:
    from modalities.molecule.chem.inchikey import inchikeys

    smiles = corpus(1500)
    blocks = np.array([key.split("-")[0] for key in inchikeys(smiles)])
    keys = np.array(inchikeys(smiles))
    near = MODALITY.neighbours(read(*smiles), 3)
    variants = [row for row, key in enumerate(keys) if ((blocks == blocks[row]) & (keys != key)).any() and key]
    found = sum((blocks[near[row][near[row] >= 0]] == blocks[row]).any() for row in variants)
    assert len(variants) > 50
    assert found > 0.95 * len(variants)
