"""SDF files: a table with a row for each molecule; never its first molecule alone."""

from pathlib import Path

import pytest
from rdkit import Chem

import mmalign
from mmalign import BadSample, DataConfig, Dataset, UserError
from mmalign.data.sources.tables import read_table
from modalities.molecule import MODALITY
from modalities.molecule.sources import sdf

SMILES = {"ethanol": "CCO", "benzene": "c1ccccc1", "glycine": "NCC(=O)O"}


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    """Written by rdkit, as a vendor does."""
    path = tmp_path / "vendor.sdf"
    with Chem.SDWriter(str(path)) as writer:
        for number, (name, smiles) in enumerate(SMILES.items()):
            molecule = Chem.MolFromSmiles(smiles)
            molecule.SetProp("_Name", name)
            molecule.SetProp("COMMENT", f"{name}, a liquid\nof batch {number}")
            if number:
                molecule.SetProp("LOT", str(number))
            writer.write(molecule)
    return path


def opened(path: Path, **settings: object) -> Dataset:
    columns = {"molecule": "molecule", "text": "COMMENT"}
    config = DataConfig("manifest", str(path), columns=columns, validation=0.0, **settings)  # type: ignore[arg-type]
    return Dataset.open(config, {tower: mmalign.modality_of(tower, mmalign.TowerConfig()) for tower in columns})


def test_every_molecule_is_a_row(vendor: Path) -> None:
    table = read_table(vendor)
    assert table.columns == ["molecule", "name", "id", "COMMENT", "LOT"]
    cells = [row.cells for row in table.rows(["id", "COMMENT", "LOT"])]
    assert [one["id"] for one in cells] == list(SMILES)
    assert [one["LOT"] for one in cells] == [None, "1", "2"]
    assert cells[2]["COMMENT"] == "glycine, a liquid\nof batch 2"
    assert next(row.where for row in table.rows([])) == "vendor.sdf:1"
    data = opened(vendor)
    for record, sample in zip(data.records, data.split("train").samples("molecule"), strict=True):
        assert sample == MODALITY.read(Chem.MolFromSmiles(SMILES[record.id])), record.id


def test_titles_that_are_not_unique_are_no_ids(vendor: Path) -> None:
    vendor.write_text(vendor.read_text().replace("benzene\n", "ethanol\n", 1))
    assert read_table(vendor).columns == ["molecule", "name", "COMMENT", "LOT"]
    assert [record.id for record in opened(vendor).records] == ["1", "2", "3"]


def test_only_the_invalid_record_is_rejected(vendor: Path) -> None:
    first, second, third, _ = vendor.read_text().split("$$$$\n")
    vendor.write_text("$$$$\n".join([first, second.replace("M  END", "M  ENDE"[:5]), third, ""]))
    data = opened(vendor, max_rejected=0.5)
    assert len(data.rejected) == 1
    assert "vendor.sdf" in str(data.rejected[0])
    vendor.write_text("$$$$\n".join([first, second.replace(" C ", " Xx", 1), third, ""]))
    (rejected,) = opened(vendor, max_rejected=0.5).rejected
    assert (rejected.id, rejected.tower) == ("benzene", "molecule")


def test_windows_line_ends_and_latin_letters(vendor: Path) -> None:
    text = vendor.read_text().replace("a liquid", "a liquid, 5 \N{MICRO SIGN}m").replace("\n", "\r\n")
    vendor.write_bytes(text.encode("latin-1"))
    assert opened(vendor).records[0].values["text"] == ("ethanol, a liquid, 5 \N{MICRO SIGN}m\nof batch 0",)


def test_a_property_called_as_the_molecule_does_not_replace_it(vendor: Path) -> None:
    vendor.write_text(vendor.read_text().replace("<LOT>", "<molecule>"))
    assert "molecule_property" in read_table(vendor).columns
    assert len(list(opened(vendor).split("train").samples("molecule"))) == 3


def test_too_long_and_empty_files(vendor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none.sdf").write_text("\n")
    with pytest.raises(UserError, match="expected an SDF with molecules, got none"):
        read_table(tmp_path / "none.sdf")
    monkeypatch.setattr(sdf, "MAX_TEXT", 400)
    with vendor.open("a") as file:
        file.write("x" * 2000)
    problems = [row.problem for row in read_table(vendor).rows([])]
    assert "at most 400 bytes, got more" in problems[-1]
    monkeypatch.setattr(sdf, "MAX_BYTES", 500)
    with pytest.raises(UserError, match="divide it into several"):
        read_table(vendor)


def test_files_of_several_molecules_are_rejected(vendor: Path) -> None:
    for source in (str(vendor), vendor, vendor.read_text(), vendor.read_bytes()):
        with pytest.raises(BadSample, match=r"expected one molecule, got several; .* --data\.manifest FILE\.sdf"):
            MODALITY.read(source)
    single = vendor.with_name("single.sdf")
    single.write_text(vendor.read_text().split("$$$$")[0] + "$$$$\n")
    assert MODALITY.read(str(single)) == MODALITY.read(Chem.MolFromSmiles("CCO"))


def test_cells_that_name_files_are_files_of_the_source(vendor: Path, tmp_path: Path) -> None:
    """Not of the working directory, and never outside the folder."""
    (tmp_path / "mols").mkdir()
    block = vendor.read_text().split("$$$$")[0]
    (tmp_path / "mols" / "one.sdf").write_text(block)
    (tmp_path / "mols" / "two.MOL").write_text(block.split("M  END")[0] + "M  END\n")
    outside = tmp_path / "secret.sdf"
    outside.write_text(block)
    table = tmp_path / "rows.csv"
    table.write_text("molecule,COMMENT\none.sdf,a\ntwo.MOL,b\nCCO,c\n../secret.sdf,d\n")
    data = opened(table, files=str(tmp_path / "mols"), max_rejected=0.5)
    assert [rejected.file for rejected in data.rejected] == ["../secret.sdf"]
    samples = list(data.split("train").samples("molecule"))
    assert len(samples) == 3
    before = data.fingerprint()
    (tmp_path / "mols" / "one.sdf").write_text(vendor.read_text().split("$$$$\n")[1])
    assert opened(table, files=str(tmp_path / "mols"), max_rejected=0.5).fingerprint() != before


def test_long_properties_do_not_count_as_the_molecule(vendor: Path) -> None:
    with vendor.open("a") as file:
        file.write(Chem.MolToMolBlock(Chem.MolFromSmiles("CCN")) + ">  <SPECTRUM>\n" + "1 2\n" * 40_000 + "\n$$$$\n")
    last = list(read_table(vendor).rows(["molecule", "SPECTRUM"]))[-1]
    assert not last.problem
    assert MODALITY.read(last.cells["molecule"]) == MODALITY.read(Chem.MolFromSmiles("CCN"))
