"""Simulated molecules: valid, described by their parts, a function of seed and index."""

import pytest

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from modalities.molecule.read import read_molecule
from modalities.molecule.sources.fragments import GROUPS, LINKERS, RINGS, FragmentsSource, draw_molecule

Chem = pytest.importorskip("rdkit.Chem")


def test_every_part_is_a_valid_molecule_and_named() -> None:
    seen = set()
    for index in range(400):
        ring, smiles, text = draw_molecule(1, index)
        molecule = Chem.MolFromSmiles(smiles)
        assert molecule is not None
        assert len(Chem.GetMolFrags(molecule)) == 1
        assert len(read_molecule(smiles).atoms) == molecule.GetNumAtoms()
        assert ring in text
        seen |= {name for name in (*RINGS, *GROUPS, *LINKERS) if name in text}
        assert (smiles, text) == draw_molecule(1, index)[1:]
    assert seen == {*RINGS, *GROUPS, *LINKERS}
    assert draw_molecule(2, 0) != draw_molecule(1, 0)


def test_the_splits_are_as_long_as_asked() -> None:
    options = {"train": 6, "validation": 2, "test": 1}
    source = FragmentsSource(SourceConfig("fragments", options=options))
    records = source.records()
    assert [record.split for record in records] == ["train"] * 6 + ["validation"] * 2 + ["test"]
    assert records[0].values.keys() == {"molecule", "text"}
    assert records[0].group == records[0].values["molecule"][0]
    assert source.fingerprint() == FragmentsSource(SourceConfig("fragments", options=options)).fingerprint()
    with pytest.raises(BadSample):
        source.fetch("0.mol")
    with pytest.raises(UserError, match="no option 'trains'.*train"):
        FragmentsSource(SourceConfig("fragments", options={"trains": 3}))
