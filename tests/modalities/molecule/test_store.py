"""The store of features: what was written comes back, and nothing else does."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmalign.errors import BadSample, UserError
from modalities.molecule import MODALITY
from modalities.molecule.cache import graph_cache as module
from modalities.molecule.cache.graph_cache import MAGIC, FeatureStore
from modalities.molecule.sample import Molecule

pytest.importorskip("rdkit")

SMILES = ["CCO", "C1CC", "[Na+].[Cl-]", "C/C=C/c1ccccc1", "", "[He]", "CCO"]


@pytest.fixture
def built(tmp_path: Path) -> FeatureStore:
    return FeatureStore.build(SMILES, tmp_path / "cache")


def test_stored_molecules_are_restored(built: FeatureStore) -> None:
    assert len(built) == len(SMILES)
    for row, smiles in enumerate(SMILES):
        if smiles in ("C1CC", ""):
            with pytest.raises(BadSample) as caught:
                built[row]
            with pytest.raises(BadSample, match="expected") as expected:
                MODALITY.read(smiles)
            assert str(caught.value) == str(expected.value)
            continue
        found = built[row]
        assert found == MODALITY.read(smiles)
        assert found.atoms.dtype == np.int16
        assert found.atoms.flags.writeable
        assert found.atoms.base is None or found.atoms.base.base is None, "a sample must not hold the file"
    assert sorted(built.rejected) == [1, 4]
    assert [molecule.smiles for molecule in built] == ["CCO", "[Na+].[Cl-]", "C/C=C/c1ccccc1", "[He]", "CCO"]
    assert built[-1] == built[0]
    assert built[2:4] == [built[2], built[3]]
    with pytest.raises(IndexError):
        built[len(SMILES)]
    assert pickle.loads(pickle.dumps(built))[3] == built[3]


def test_a_corpus(tmp_path: Path, corpus: Callable[[int], list[str]]) -> None:
    smiles = corpus(300)
    built = FeatureStore.build(smiles, tmp_path)
    for found, one in zip(built, smiles, strict=True):
        assert found == MODALITY.read(one)


def test_the_second_start_featurises_nothing(built: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from modalities.molecule import read

    def refuse(source: object) -> Molecule:
        raise AssertionError(f"read {source} again")

    written = built.path.stat().st_mtime_ns
    monkeypatch.setattr(read, "read_molecule", refuse)
    again = FeatureStore.build(SMILES, built.path.parent)
    assert again.path == built.path
    assert again.path.stat().st_mtime_ns == written
    assert again[3] == built[3]
    assert FeatureStore.open(built.path)[0] == built[0]


def test_other_molecules_and_other_versions_have_other_files(
    built: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = built.path.parent
    names = {built.path.name, FeatureStore.build(SMILES[::-1], folder).path.name}
    names.add(FeatureStore.build(["CC", "O"], folder).path.name)
    names.add(FeatureStore.build(["C", "CO"], folder).path.name)
    for name in ("featuriser", "rdkit"):
        versions = {**module.versions(), name: "other"}
        with monkeypatch.context() as patched:
            patched.setattr(module, "versions", lambda versions=versions: versions)
            names.add(FeatureStore.build(SMILES, folder).path.name)
            with pytest.raises(UserError, match=f"made by {name}"):
                FeatureStore.open(built.path)
    assert len(names) == 6
    assert not list(folder.glob(".*")), "something temporary was left"


def test_every_damaged_byte_is_noticed_and_repaired(built: FeatureStore) -> None:
    whole, rng, good = built.path.read_bytes(), np.random.default_rng(0), (0, 2, 3, 5, 6)
    expected = [built[row] for row in good]
    header = len(MAGIC) + 8 + int.from_bytes(whole[len(MAGIC) : len(MAGIC) + 8], "little")
    known = [0, len(MAGIC), len(MAGIC) + 3, len(MAGIC) + 20, len(whole) - 1]
    for place in [*known, *rng.integers(0, len(whole), 150).tolist()]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        built.path.write_bytes(damaged)
        message = _refusal(built.path)
        if message is None:  # a letter of a reason, or of what fills up to where the numbers begin
            assert place < header + module.ALIGNED
            again = FeatureStore.open(built.path)
            assert [again[row] for row in good] == expected
        else:
            assert str(built.path) in message
            assert "\n" not in message
    for length in (0, 1, len(MAGIC), len(MAGIC) + 8, header, len(whole) - 1):
        built.path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="delete it and build it again"):
            FeatureStore.open(built.path)
    assert FeatureStore.build(SMILES, built.path.parent)[3] == MODALITY.read(SMILES[3])
    assert built.path.read_bytes() == whole


def _refusal(path: Path) -> str | None:
    try:
        FeatureStore.open(path)
    except UserError as error:
        return str(error)
    return None


def rewritten(path: Path, change: Callable[[dict[str, object], bytearray], None]) -> None:
    """The file with another header or other numbers, and a hash that fits them: one that lies well."""
    whole = path.read_bytes()
    start = len(MAGIC) + 8
    length = int.from_bytes(whole[len(MAGIC) : start], "little")
    header = json.loads(whole[start : start + length])
    body = bytearray(whole[start + length + -(start + length) % module.ALIGNED :])
    change(header, body)
    header["sha256"] = hashlib.sha256(body).hexdigest()
    text = json.dumps(header).encode()
    lead = MAGIC + len(text).to_bytes(8, "little") + text
    path.write_bytes(lead + bytes(-len(lead) % module.ALIGNED) + body)


def _number(section: str, value: int, place: int = 0) -> Callable[[dict[str, object], bytearray], None]:
    def change(header: dict[str, object], body: bytearray) -> None:
        first = header["layout"][section][0]  # type: ignore[index]
        size = 8 if section.endswith("offsets") else 2
        body[first + size * place : first + size * (place + 1)] = value.to_bytes(size, "little", signed=True)

    return change


def _header(**values: object) -> Callable[[dict[str, object], bytearray], None]:
    return lambda header, body: header.update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_number("atoms", 9999), "atoms out of range"),
        (_number("atoms", -1), "atoms out of range"),
        (_number("bonds", 99), "bonds out of range"),
        (_number("ends", 3), "ends out of range"),
        (_number("ends", -1), "ends out of range"),
        (_number("motif", 1), "motif out of range"),
        (_number("motif_ids", 5000), "motif_ids out of range"),
        (_number("atoms_offsets", 1), "offsets of atoms that do not ascend"),
        (_number("atoms_offsets", 1 << 60, len(SMILES)), "build it again"),
        (_number("atoms_offsets", -5, 2), "do not ascend"),
        (_number("motif", 0, 4), "a motif without atoms"),
        (_header(count=99), "build it again"),
        (_header(count=-1), "build it again"),
        (_header(count="3"), "build it again"),
        (_header(rejected={}), "no reason"),
        (_header(rejected={"0": ["a", "b", "c"]}), "no reason"),
        (_header(rejected={"x": 3}), "build it again"),
        (_header(rejected=[]), "build it again"),
        (_header(layout={}), "KeyError"),
        (_header(layout={"atoms_offsets": [-64, 64]}), "build it again"),
        (_header(bytes=7), "bytes of numbers"),
        (_header(rdkit="2001.1"), "made by rdkit 2001.1"),
    ],
)
def test_inconsistent_files_are_rejected(
    built: FeatureStore, change: Callable[[dict[str, object], bytearray], None], message: str
) -> None:
    rewritten(built.path, lambda header, body: None)
    assert FeatureStore.open(built.path)[0] == built[0], "the tool itself changes nothing"
    rewritten(built.path, change)
    with pytest.raises(UserError, match=message):
        FeatureStore.open(built.path)


def test_foreign_files_are_rejected(tmp_path: Path) -> None:
    for name, content in (("a", b""), ("b", b"PK\x03\x04" * 50), ("c", pickle.dumps({"atoms": 1}) * 20)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="no store of molecules"):
            FeatureStore.open(tmp_path / name)
    with pytest.raises(UserError, match="no store of molecules"):
        FeatureStore.open(tmp_path / "missing")


def test_file_names_are_not_accepted_as_smiles(tmp_path: Path) -> None:
    for wrong in ("x.mol", "x.SDF", None, 3):
        with pytest.raises(UserError, match="entry 1 is"):
            FeatureStore.build(["C", wrong], tmp_path)  # type: ignore[list-item]
    assert len(FeatureStore.build([], tmp_path)) == 0
