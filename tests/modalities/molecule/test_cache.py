"""`--data.cache`: what was worked out once is read again, equal to the bit, and nothing is worked out twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import embed_split
from mmalign.errors import BadSample, UserError
from mmalign.evaluation.ranking.corpus import corpora, embed_corpus
from mmalign.model import Aligner, TowerConfig, fit_transforms, modality_of
from mmalign.objectives.pairs.pair_config import PairConfig
from modalities.molecule import MODALITY
from modalities.molecule.cache import ragged_file as ragged
from modalities.molecule.cache.graph_cache import FeatureStore
from tests.evaluation.running import evaluate_retrieval

pytest.importorskip("rdkit")

from rdkit.Chem import Descriptors, MolFromSmiles

from modalities.molecule import read
from modalities.molecule.cache import fingerprint_cache as count_store
from modalities.molecule.cache.fingerprint_cache import CountStore
from modalities.molecule.chem import fingerprint

SMILES = ["CCO", "C/C=C/c1ccccc1", "[Na+].[Cl-]", "C[C@H](N)C(=O)O", "CCO", "OC(=O)CCN", "[He]"]
HOW: dict[str, Any] = {"bins": 2048, "families": ("groups", "torsion", "morgan", "fields"), "stereo": True}
TOWERS = {
    "molecule": TowerConfig(encoder="fingerprints", args={"width": 8}),
    "text": TowerConfig(encoder="tfidf", args={"width": 8}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ChEBI-20's files, with a row and a candidate that rdkit refuses."""
    made = tmp_path / "chebi"
    made.mkdir()
    rows = [f"{place}\t{smiles}\tmolecule number {place}" for place, smiles in enumerate([*SMILES, "C1CC"])]
    (made / "validation.txt").write_text("\n".join(["CID\tSMILES\tdescription", *rows]) + "\n")
    listed = [f"{place}\t{smiles}\ttest" for place, smiles in enumerate([*SMILES, "C1CC", "CCCN", "c1ccccc1O"])]
    (made / "corpus_smiles.txt").write_text("\n".join(["CID\tSMILES\tsplit", *listed]) + "\n")
    return made


def opened(folder: Path, cache: Path | None, workers: int = 0) -> tuple[Dataset, Aligner]:
    """The data, prepared, and a model whose transforms were fitted on it."""
    options = {"split": "file"}
    data = Dataset.open(
        DataConfig(
            "chebi20",
            str(folder),
            options=options,
            cache=None if cache is None else str(cache),
            max_rejected=0.5,
            workers=workers,
        ),
        {side: modality_of(side, tower) for side, tower in TOWERS.items()},
    )
    split = data.split("validation")
    samples = {side: split.samples(side) for side in TOWERS}
    torch.manual_seed(0)
    model = Aligner(TOWERS, [PairConfig(*TOWERS, "clip")], 4, fit_transforms(TOWERS, samples, split.features))
    return data, model


def found(data: Dataset, model: Aligner) -> dict[str, Any]:
    """Everything that could differ."""
    listed = corpora(data, ("molecule",), "corpus")["molecule"]
    corpus = embed_corpus(model, data, "molecule", listed, batch_size=3)
    ask = {"a": "text", "b": "molecule", "split": "validation", "bootstrap": 0, "gallery": "corpus"}
    return {
        "rejected": data.rejected,
        "scales": model.transforms["molecule"].config(),
        "rows": embed_split(model, data, "molecule", "validation", batch_size=4).embedding.vector,
        "corpus": corpus.embedded.embedding.vector,
        "of": corpus.embedded.record_indices,
        "refused": corpus.rejected,
        "scores": evaluate_retrieval(model, data, **ask).scores,
        "by group": evaluate_retrieval(model, data, **ask, relevance="group").scores,
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in one.items():
        equal = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        assert equal, name


def refuse(*given: object, **more: object) -> None:
    raise AssertionError(f"worked out again: {given}")


def test_cached_results_are_bit_identical_and_computed_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = found(*opened(folder, None))
    assert [row.id for row in without["rejected"]] == ["7"]
    assert "ring bond 1 that is not closed" in without["refused"][0]
    assert without["of"].tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    cache = tmp_path / "cache"
    same(without, found(*opened(folder, cache)))
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert sorted(path.suffix for path in kept) == [".counts", ".counts", ".molecules", ".molecules"]
    monkeypatch.setattr(read, "read_molecule", refuse)
    monkeypatch.setattr(fingerprint, "_parsed", refuse)
    monkeypatch.setattr(count_store, "parsed_counts", refuse)
    same(without, found(*opened(folder, cache)))
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept


def test_damaged_and_foreign_files_are_made_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    without = found(*opened(folder, cache))
    for place, path in enumerate(sorted(cache.iterdir())):
        whole = path.read_bytes()
        path.write_bytes((whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"PK\x03\x04" * 99, whole[:200])[place])
    same(without, found(*opened(folder, cache)))
    assert not [path for path in cache.iterdir() if path.suffix not in (".counts", ".molecules")]


def test_a_folder_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--data\.cache: expected a folder that can be written, got .*file"):
        opened(folder, tmp_path / "file")


def test_the_folder_by_the_environment(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMALIGN_CACHE", str(tmp_path / "there"))
    assert DataConfig("chebi20", str(folder)).cache_folder == tmp_path / "there"
    assert DataConfig("chebi20", str(folder), cache="here").cache_folder == Path("here")


def test_files_of_molecules_are_read_one_by_one(tmp_path: Path) -> None:
    assert MODALITY.read_many(["CCO", "x.sdf"], tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_several_processes_give_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*SMILES, "C1CC", "", "CCC"]
    monkeypatch.setattr(ragged, "CHUNK", 3)
    one = FeatureStore.build(rows, tmp_path / "one")
    monkeypatch.setattr(ragged, "_PROCESSES_FROM", 1)
    two = FeatureStore.build(rows, tmp_path / "two", workers=2)
    assert two.path.read_bytes() == one.path.read_bytes()
    assert sorted(two.rejected) == [7, 8]
    assert two[9] == MODALITY.read("CCC")


def test_stored_counts_equal_the_computed_ones(tmp_path: Path) -> None:
    store = CountStore.build([*SMILES, "C1CC"], tmp_path, **HOW)
    assert len(store) == len(SMILES) + 1
    for row, smiles in enumerate(SMILES):
        expected = fingerprint.parsed_counts(smiles, 2048, HOW["families"])
        assert set(store[row]) == set(expected) == {"groups", "torsion", "morgan"}
        for family, (bins, often) in expected.items():
            np.testing.assert_array_equal(store[row][family][0], bins)
            np.testing.assert_array_equal(store[row][family][1], often)
    with pytest.raises(BadSample, match="one that it refuses"):
        store[len(SMILES)]
    others = [HOW | {"bins": 4096}, HOW | {"stereo": False}, HOW | {"families": ("morgan",)}]
    paths = {CountStore.build(SMILES, tmp_path, **how).path for how in others}
    assert len(paths | {store.path}) == 4
    for how in others:
        with pytest.raises(UserError, match="no store of counts .* build it again"):
            CountStore(store.path, **how)


def test_groups_are_those_of_rdkit(corpus: Callable[[int], list[str]]) -> None:
    for smiles in corpus(100):
        places, often = fingerprint.parsed_counts(smiles, 2048, ["groups"])["groups"]
        mol = MolFromSmiles(smiles)
        counted = [count(mol) for name, count in Descriptors.descList if name.startswith("fr_")]
        assert dict(zip(places.tolist(), often.tolist(), strict=True)) == {
            place: count for place, count in enumerate(counted) if count
        }


def test_wrong_counts_are_rejected(tmp_path: Path) -> None:
    sections, head = count_store.sections_of(("morgan",)), count_store._head(2048, ("morgan",), True)
    for name, bins, often in (("bin", 2048, 1), ("count", 5, 0), ("negative", 5, -1)):
        values = {"morgan_bins": np.array([bins], "<u2").tobytes(), "morgan_counts": np.array([often], "<i4").tobytes()}
        part = ragged.Part({"morgan_bins": [1]}, values, {})
        ragged.write(tmp_path / name, count_store.MAGIC, sections, head, [part])
        with pytest.raises(UserError, match="bins or counts of morgan out of range"):
            CountStore(tmp_path / name, bins=2048, families=("morgan",), stereo=True)


@pytest.mark.parametrize("settings", [{}, {"stereo": False}, {"families": ("motifs", "fields")}])
def test_features_on_disk_equal_those_computed(tmp_path: Path, settings: dict[str, Any]) -> None:
    transform = MODALITY.transform("fingerprints", {"fingerprint": 2048}, **settings)
    read = MODALITY.read_many(SMILES, tmp_path)
    assert read is not None
    on_disk = transform.featurise_many(read[0], tmp_path)
    computed = [transform.featurise(MODALITY.read(text)) for text in SMILES]
    assert len(on_disk) == len(SMILES)
    one, other = (transform.collate([transform(raw) for raw in many]) for many in (on_disk, computed))
    assert all(torch.equal(one[name], value) for name, value in other.items())
