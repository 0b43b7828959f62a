"""The source reads ChEBI-20's folder, and any part of it."""

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rdkit import rdBase

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from modalities.molecule import MODALITY
from modalities.molecule.chem import inchikey
from modalities.molecule.chem.inchikey import inchikeys
from modalities.molecule.sources.chebi20 import Chebi20Source
from modalities.text import MODALITY as TEXT

pytest.importorskip("rdkit")

DOUBLED = "C/C=C" + 2 * chr(92) + "C"
HEAD = "CID\tSMILES\tdescription"
TRAIN = ["1\tCCO\tThe molecule is a spirit", "2\tC[C@H](N)C(=O)O\tThe molecule is one hand", f"3\t{DOUBLED}\tIt bends"]
VALID = ["4\tC[C@@H](N)C(=O)O\tThe molecule is the other hand", "5\tOCC\tThe molecule is a spirit again"]


def write(folder: Path, **files: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corpus = ["CID\tSMILES\tsplit", "1\tCCO\ttrain", "9\tCCC\ttest", "4\tC[C@@H](N)C(=O)O\tvalidation"]
    return write(tmp_path / "chebi", train=[HEAD, *TRAIN], validation=[HEAD, *VALID], corpus_smiles=corpus)


def opened(folder: Path, columns: dict[str, str] | None = None, **options: object) -> Chebi20Source:
    return Chebi20Source(SourceConfig("chebi20", str(folder), columns=columns or {}, options=options))


def test_rows_keep_the_split_of_their_file(folder: Path) -> None:
    records = opened(folder).records()
    assert [(record.id, record.split) for record in records] == [
        ("1", "train"), ("2", "train"), ("3", "train"), ("4", "validation"), ("5", "validation"),
    ]  # fmt: skip
    assert records[0].values == {"molecule": ("CCO",), "text": ("The molecule is a spirit",)}
    assert records[3].location == "validation.txt:2"
    assert records[2].values["molecule"] == (DOUBLED.replace(2 * chr(92), chr(92)),)
    assert len(MODALITY.read(records[2].values["molecule"][0]).atoms) == 4


def test_groups_by_inchikey_connectivity_or_none(folder: Path) -> None:
    whole = [record.group for record in opened(folder).records()]
    assert whole[0] == whole[4] == "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"
    assert len(set(whole)) == 4
    blocks = [record.group for record in opened(folder, group="connectivity").records()]
    assert blocks[1] == blocks[3] == whole[1].split("-")[0]
    assert [record.group for record in opened(folder, group="none").records()] == [None] * 5


def test_one_part_alone_is_divided_by_shares_or_by_number(folder: Path) -> None:
    (folder / "train.txt").unlink()
    assert [record.split for record in opened(folder).records()] == [None, None]
    assert [record.split for record in opened(folder, split="file").records()] == ["validation"] * 2
    rows = [HEAD, *(f"{place}\t{'C' * place}\ttext {place}" for place in range(1, 31)), "31\tCC(C)\tas propane"]
    splits = [record.split for record in opened(write(folder, validation=rows), held=5, held_test=3).records()]
    assert Counter(splits) == {"train": 23, "validation": 5, "test": 3}
    assert splits[2] == splits[30], "one molecule, twice"
    couples = [HEAD, *(f"{place}\t{'C' * (place // 2 + 1)}\ttext" for place in range(30))]
    splits = [record.split for record in opened(write(folder, validation=couples), held=5).records()]
    assert Counter(splits) == {"train": 26, "validation": 4}, "no half of a couple"
    write(folder, validation=rows)
    splits = [record.split for record in opened(folder, held=5, held_test=3).records()]
    turned = [HEAD, *rows[:0:-1]]
    again = opened(write(folder, validation=turned), held=5, held_test=3).records()
    assert [record.split for record in again] == splits[::-1], "the order of rows does not matter"


def test_named_text_is_joined_by_cid(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"train_named\.csv is missing"):
        opened(folder, text="named").records()
    head = "CID,CanonicalSMILES,Title,Description\n"
    (folder / "train_named.csv").write_text(head + '2,CC(N)C(=O)O,alanine,"Alanine, a hand"\n1,CCO,ethanol,Ethanol\n')
    (folder / "validation_named.csv").write_text(head + "4,CC(N)C(=O)O,d,Other hand\n77,C,methane,Methane\n")
    records = opened(folder, text="named").records()
    assert [(record.id, record.values["text"]) for record in records] == [
        ("1", ("Ethanol",)), ("2", ("Alanine, a hand",)), ("4", ("Other hand",)),
    ]  # fmt: skip
    assert records[1].values["molecule"] == ("C[C@H](N)C(=O)O",), "the SMILES with stereo"
    assert "2 of 5 rows left out" in caplog.text


def test_corpus_lists_all_molecules_with_their_split(folder: Path) -> None:
    source = opened(folder, columns={"graph": "smiles", "text": "text"})
    found = source.corpus("graph")
    assert [(one.id, one.values, one.split) for one in found] == [
        ("1", {"graph": ("CCO",)}, "train"),
        ("9", {"graph": ("CCC",)}, "test"),
        ("4", {"graph": ("C[C@@H](N)C(=O)O",)}, "validation"),
    ]
    assert [one.group for one in found] == [None] * 3, "InChIKeys take time, and most relevance criteria read none"
    known = {record.id: record.group for record in source.records()}
    assert [one.group for one in source.grouped(found)] == [known["1"], inchikeys(["CCC"])[0], known["4"]]
    assert source.grouped([replace(found[1], group="its own")])[0].group == "its own"
    assert source.corpus("text") is None
    (folder / "corpus_smiles.txt").unlink()
    assert opened(folder).corpus("molecule") is None


def test_added_pairs_train_and_are_never_scored(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["0\tOCC\tas row 1", "1\tCCC\tin the test of the corpus", "2\tCCCC\tbutane", "3\tFCl(=O)(=O)=O\trefused"]
    pcdes = write(tmp_path / "pcdes", test=[HEAD, *rows])
    added = opened(folder, add=str(pcdes)).records()[5:]
    assert [(record.id, record.split) for record in added] == [("pcdes 2", "train"), ("pcdes 3", "train")]
    assert "2 of 4 rows left out" in caplog.text
    (folder / "train.txt").unlink()
    with pytest.raises(UserError, match="held"):
        opened(folder, add=str(pcdes))
    alone, more = (opened(folder, held=1, **options).records() for options in ({}, {"add": str(pcdes)}))
    assert [record.split for record in more][:2] == [record.split for record in alone]
    assert Counter(record.split for record in more[2:]) == {"train": len(more) - 2}
    with pytest.raises(UserError, match="PCdes"):
        opened(folder, held=1, add=str(tmp_path)).records()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"txt": "named"}, "did you mean 'text'"),
        ({"text": "nmaed"}, "masked, named"),
        ({"group": "key"}, "inchikey"),
        ({"split": "file", "held": 3}, "own, not file"),
        ({"held": True}, "how many"),
        ({"held": -1}, "how many"),
    ],
)
def test_options_are_checked(folder: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        opened(folder, **options)


def test_missing_tables_and_bad_rows_are_reported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"train\.txt"):
        opened(tmp_path)
    monkeypatch.delenv("MMALIGN_DATA", raising=False)
    with pytest.raises(UserError, match="MMALIGN_DATA"):
        Chebi20Source(SourceConfig("chebi20"))
    monkeypatch.setenv("MMALIGN_DATA", str(tmp_path))
    folder.rename(tmp_path / "chebi20")
    folder = tmp_path / "chebi20"
    assert len(Chebi20Source(SourceConfig("chebi20")).records()) == 5
    write(folder, train=[HEAD, "1\tCCO", "2\t\tno molecule", "3\tCCC\t ", "4\tC1CC\tan open ring"])
    records = opened(folder).records()
    assert "3 cells" in records[0].problem.reason
    assert [sorted(record.values) for record in records[1:3]] == [["text"], ["molecule"]]
    assert records[3].group is None
    write(folder, train=["CID\tSMILES", "1\tCCO"])
    with pytest.raises(UserError, match="'description'"):
        opened(folder).records()
    with pytest.raises(UserError, match="no column 'smile'"):
        opened(folder, columns={"molecule": "smile"})
    with pytest.raises(BadSample):
        opened(folder).fetch("CCO")


def test_the_fingerprint_follows_the_content(folder: Path) -> None:
    first = opened(folder).fingerprint()
    assert opened(folder).fingerprint() == first
    assert opened(folder, group="none").fingerprint() != first
    write(folder, train=[HEAD, *TRAIN[:2], TRAIN[2] + "!"])
    assert opened(folder).fingerprint() != first
    assert pickle.loads(pickle.dumps(opened(folder))).records()


def test_keys_are_kept_between_processes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rdkit import Chem

    from modalities.molecule.chem import inchikey

    kept = tmp_path / "kept"
    monkeypatch.setattr(inchikey, "_remembered", {})
    groups = [record.group for record in opened(folder, cache=str(kept)).records()]
    (file,) = kept.iterdir()
    with file.open("a") as stream:
        stream.write("no key at all\tCCC\n\x00\n")
    monkeypatch.setattr(inchikey, "_remembered", {})
    worked_out = []
    real = Chem.MolFromSmiles
    monkeypatch.setattr(Chem, "MolFromSmiles", lambda text: worked_out.append(text) or real(text))
    source = opened(folder, cache=str(kept))
    assert [record.group for record in source.records()] == groups
    assert worked_out == []
    listed = source.corpus("molecule")
    assert worked_out == []
    assert source.grouped(listed)[1].group == "ATUOYWHBWRKTHZ-UHFFFAOYSA-N"
    assert worked_out == ["CCC"]


@pytest.mark.real
def test_the_real_folder(real_data: Path) -> None:
    folder = real_data / "chebi20"
    source = opened(folder, held=500, held_test=300)
    records = source.records()
    assert Counter(record.split for record in records) == {"train": 2501, "validation": 500, "test": 300}
    places: dict[str | None, set[str | None]] = {}
    for record in records:
        places.setdefault(record.group, set()).add(record.split)
    assert None not in places
    assert all(len(splits) == 1 for splits in places.values()), "an InChIKey in two splits"
    raw = (folder / "validation.txt").read_text(encoding="utf-8").splitlines()[1:]
    doubled = [record for record, line in zip(records, raw, strict=True) if 2 * chr(92) in line.split("\t")[1]]
    assert 0.13 < len(doubled) / len(records) < 0.17
    assert all(2 * chr(92) not in record.values["molecule"][0] for record in doubled)
    assert all(MODALITY.read(record.values["molecule"][0]).atoms.size for record in doubled[:50])
    assert len(opened(folder, text="named").records()) == 3285
    listed = opened(folder, group="none").corpus("molecule")
    assert len(listed) == len({one.id for one in listed}) == 33010
    assert Counter(one.split for one in listed) == {"train": 26409, "validation": 3301, "test": 3300}
    known = {one.id: one.values["molecule"] for one in listed}
    assert all(known[record.id] == record.values["molecule"] for record in records)


@pytest.mark.real
def test_the_real_folder_through_the_data_module(real_data: Path) -> None:
    data = Dataset.open(
        DataConfig("chebi20", str(real_data / "chebi20"), validation=0.15, split_seed=1),
        {"molecule": MODALITY, "text": TEXT},
        splits=[],
    )
    counts = Counter(data.splits)
    assert counts.keys() == {"train", "validation"}
    assert 0.13 < counts["validation"] / len(data.splits) < 0.17
    assert data.rejected == []


def test_keys_of_enhanced_stereo_are_cached_with_their_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A racemic centre has no stereo in an InChI; files of versions that ignored the bars are not read."""
    monkeypatch.setattr(inchikey, "_remembered", {})
    racemic, pure = "C[C@H](N)C(=O)O |&1:1|", "C[C@H](N)C(=O)O"
    other = inchikeys([pure])[0]
    (tmp_path / f"inchikeys-{rdBase.rdkitVersion}.tsv").write_text(f"{other}\t{racemic}\n", encoding="utf-8")
    for _ in range(2):
        inchikey._remembered.clear()
        with inchikey.Kept(tmp_path):
            assert inchikeys([racemic, pure]) == [inchikeys(["CC(N)C(=O)O"])[0], other]
