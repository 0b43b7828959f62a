"""The source reads PCdes's folder, and any part of it."""

from pathlib import Path

import pytest

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from modalities.molecule import MODALITY
from modalities.molecule.sources import pcdes
from modalities.molecule.sources.pcdes import PcdesSource
from modalities.text import MODALITY as TEXT

pytest.importorskip("rdkit")

HEAD = "CID\tSMILES\tdescription"
LONG = "It is a spirit that people drink. It burns. It has a role as a solvent, 2.5 times over."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [HEAD, f"10500\tCCO\t{LONG}", "10501\tO=Cl(=O)(=O)F\tit is refused", "10502\tCCC\tit is propane"]
    (tmp_path / "validation.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def opened(folder: Path, **options: object) -> PcdesSource:
    return PcdesSource(SourceConfig("pcdes", str(folder), options=options))


def test_paragraphs_and_sentences(folder: Path) -> None:
    records = opened(folder).records()
    assert [record.id for record in records] == ["10500", "10501", "10502"]
    assert [record.split for record in records] == [None] * 3
    assert records[0].values == {"molecule": ("CCO",), "text": (LONG,)}
    found = [record.values["text"] for record in opened(folder, level="sentence").records()]
    assert found[0] == ("It is a spirit that people drink.", "It has a role as a solvent, 2.5 times over.")
    assert found[2] == ("it is propane",), "none of five words: whole"
    with pytest.raises(UserError, match="paragraph, sentence"):
        opened(folder, level="words")


def test_a_rejected_smiles_shifts_no_pair(folder: Path) -> None:
    data = Dataset.open(
        DataConfig("pcdes", str(folder), validation=0.0, max_rejected=0.5), {"molecule": MODALITY, "text": TEXT}
    )
    assert [rejected.id for rejected in data.rejected] == ["10501"]
    assert "valence" in data.rejected[0].reason
    pairs = zip(data.split("train").samples("molecule"), data.split("train").samples("text"), strict=True)
    assert [(molecule.smiles, text) for molecule, text in pairs] == [("CCO", LONG), ("CCC", "it is propane")]


def test_molecules_evaluated_in_chebi_are_excluded(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chebi = tmp_path / "chebi"
    chebi.mkdir()
    (chebi / "validation.txt").write_text(f"{HEAD}\n7\tOCC\tspirit\n")
    (chebi / "train.txt").write_text(f"{HEAD}\n8\tCCC\ttrains there\n")
    assert [record.id for record in opened(folder, exclude=str(chebi)).records()] == ["10501", "10502"]
    assert "1 of 3 rows left out" in caplog.text
    (chebi / "corpus_smiles.txt").write_text("CID\tSMILES\tsplit\n8\tCCC\ttest\n")
    assert [record.id for record in opened(folder, exclude=str(chebi)).records()] == ["10501"]


def test_corpus_lists_align_smiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcdes, "BOUNDS", {"train": 1, "validation": 2, "test": 3})
    assert opened(folder).corpus("molecule") is None
    (folder / "align_smiles.txt").write_text("C\nCC\nCCC\n")
    found = opened(folder).corpus("molecule")
    assert [(one.id, one.values["molecule"], one.split) for one in found] == [
        ("0", ("C",), "train"), ("1", ("CC",), "validation"), ("2", ("CCC",), "test"),
    ]  # fmt: skip
    assert opened(folder).corpus("text") is None


@pytest.mark.real
def test_the_real_folder(real_data: Path) -> None:
    source = opened(real_data / "pcdes", group="none", split="file")
    records = source.records()
    assert [sum(record.split == split for record in records) for split in ("validation", "test")] == [1500, 3000]
    listed = source.corpus("molecule")
    assert len(listed) == 15000
    assert all(
        listed[int(record.id)].values == {"molecule": record.values["molecule"]}
        and listed[int(record.id)].split == record.split
        for record in records
    )
    refused = next(record for record in records if record.id == "12072")
    with pytest.raises(BadSample, match="valence"):
        MODALITY.read(refused.values["molecule"][0])
