"""Molecules featurised once: ragged arrays in one memory-mapped file, named by what it was made of."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample, UserError
from mmalign.registry import missing_extra
from modalities.molecule.molecule import ATOM_SIZES, BOND_SIZES, MAX_ATOMS, MOTIFS, Molecule

MAGIC = b"mmalign molecules 1\n"
MAX_HEADER = 1 << 26
ALIGNED = 64

# Section -> type and columns; rows are counted by the offsets, one more than there are molecules.
SECTIONS: dict[str, tuple[str, int]] = {
    "atoms": ("<i2", len(ATOM_SIZES)), "bonds": ("<i2", len(BOND_SIZES)), "ends": ("<i2", 2), "motif": ("<i2", 1),
    "motif_ids": ("<i2", 1), "smiles": ("<u1", 1),
}  # fmt: skip
OFFSETS = ("atoms", "bonds", "motif_ids", "smiles")
_COUNTED_BY = {"ends": "bonds", "motif": "atoms"}


class FeatureStore(Sequence[Molecule]):
    """Molecules of a list of SMILES, in its order, read from the disk as they are asked for.

    A file is believed only whole: magic, sizes, SHA-256, and every number in its range are checked before use. Nothing
    in it can run. What rdkit refuses keeps its place and its reason.

    Args:
        path: A file that `build` made.

    Raises:
        UserError: it is damaged, foreign, or made by another version of this code or of rdkit.

    Example:
        >>> import tempfile
        >>> from modalities.molecule.store import FeatureStore
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = FeatureStore.build(["CCO", "C1CC", "[Na+].[Cl-]"], folder)
        ...     len(store), store[2].smiles, sorted(store.rejected)
        (3, '[Na+].[Cl-]', [1])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._header, body = _opened(self.path)
            self._arrays, self._offsets = _views(self._header, body)
            _check(self._arrays, self._offsets)
            self.rejected = {int(row): BadSample(*reason) for row, reason in self._header["rejected"].items()}
            if sorted(self.rejected) != np.flatnonzero(np.diff(self._offsets["atoms"]) == 0).tolist():
                raise ValueError("molecules without atoms that no reason is given for")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UserError(
                f"{self.path} is no store of molecules that can be used ({type(error).__name__}: {error}); "
                "delete it and build it again"
            ) from error

    @classmethod
    def build(cls, smiles: Iterable[str], folder: str | Path) -> "FeatureStore":
        """Open the store of these SMILES in this folder; where there is none that can be used, make it.

        Args:
            smiles: In order; equal ones are featurised once each time they stand in it.
            folder: Made if missing. A file's name is a hash of the SMILES, the featuriser's version and rdkit's.

        Raises:
            UserError: an entry is no text, or names a file, whose content that hash would not know.
        """
        rows = list(smiles)
        for place, row in enumerate(rows):
            if not isinstance(row, str) or row.lower().endswith((".mol", ".sdf")):
                raise UserError(f"a store is made of SMILES; entry {place} is {row!r}: read files one by one instead")
        path = Path(folder) / f"{_key(rows)}.molecules"
        if path.is_file():
            try:
                return cls(path)
            except UserError:
                pass  # damaged: made again below, and put in its place at once
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, rows)
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open a file that `build` made."""
        return cls(path)

    def __len__(self) -> int:
        return len(self._offsets["atoms"]) - 1

    def __getitem__(self, row: Any) -> Any:
        """One molecule, or the list of those of a slice.

        Raises:
            BadSample: rdkit refused this one.
        """
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        place = int(row) + len(self) * (row < 0)
        if not 0 <= place < len(self):
            raise IndexError(f"row {row} of {len(self)} molecules")
        if place in self.rejected:
            raise self.rejected[place]
        found = {}
        for name, array in self._arrays.items():
            first, last = self._offsets[_COUNTED_BY.get(name, name)][place : place + 2]
            found[name] = array[first:last]
        text = found.pop("smiles").tobytes().decode()
        # Copies: a sample outlives the file, and is pickled without it.
        return Molecule(text, **{name: np.array(values) for name, values in found.items()})

    def __iter__(self) -> Iterator[Molecule]:
        """The molecules that were not refused, in order."""
        return (self[place] for place in range(len(self)) if place not in self.rejected)

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore, (self.path,)


def _versions() -> dict[str, Any]:
    try:
        from rdkit import rdBase

        from modalities.molecule.featurise import VERSION
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "rdkit", "molecule") from error
    return {"featuriser": VERSION, "rdkit": rdBase.rdkitVersion}


def _key(rows: Sequence[str]) -> str:
    digest = hashlib.sha256(MAGIC + json.dumps(_versions(), sort_keys=True).encode())
    for row in rows:
        text = row.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()[:32]


def _write(path: Path, rows: Sequence[str]) -> None:
    from modalities.molecule.read import read_molecule

    parts: dict[str, list[bytes]] = {name: [] for name in SECTIONS}
    counts: dict[str, list[int]] = {name: [0] for name in OFFSETS}
    rejected = {}
    for place, row in enumerate(rows):
        try:
            molecule = read_molecule(row)
        except BadSample as error:
            rejected[str(place)] = [error.source, error.expected, error.came]
            for name in OFFSETS:
                counts[name].append(0)
            continue
        text = molecule.smiles.encode()
        for name in SECTIONS:
            parts[name].append(text if name == "smiles" else getattr(molecule, name).astype("<i2").tobytes())
        for name in OFFSETS:
            counts[name].append(len(text) if name == "smiles" else len(getattr(molecule, name)))
    body = bytearray()
    layout: dict[str, list[int]] = {}
    sections = [(f"{name}_offsets", np.cumsum(counts[name]).astype("<i8").tobytes()) for name in OFFSETS]
    for name, data in [*sections, *((name, b"".join(part)) for name, part in parts.items())]:
        body += bytes(-len(body) % ALIGNED)
        layout[name] = [len(body), len(data)]
        body += data
    header = {**_versions(), "count": len(rows), "rejected": rejected, "layout": layout, "bytes": len(body)}
    header["sha256"] = hashlib.sha256(body).hexdigest()
    text = json.dumps(header, ensure_ascii=True).encode()
    start = MAGIC + len(text).to_bytes(8, "little") + text
    start += bytes(-len(start) % ALIGNED)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".molecules-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(start)
            file.write(body)
        os.replace(name, path)  # a reader sees all of it or nothing
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _opened(path: Path) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    whole = np.memmap(path, dtype=np.uint8, mode="r")
    start = len(MAGIC) + 8
    if whole[: len(MAGIC)].tobytes() != MAGIC:
        raise ValueError("it does not begin as one")
    length = int.from_bytes(whole[len(MAGIC) : start].tobytes(), "little")
    if not 0 < length <= min(MAX_HEADER, len(whole) - start):
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(whole[start : start + length].tobytes())
    if not isinstance(header, dict):
        raise TypeError("its header is no mapping")
    for name, version in _versions().items():
        if header[name] != version:
            raise ValueError(f"made by {name} {header[name]}, this is {version}")
    start += length
    body = whole[start + -start % ALIGNED :]
    if len(body) != header["bytes"]:
        raise ValueError(f"{len(body)} bytes of numbers, its header says {header['bytes']}")
    if hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise ValueError("its numbers are not those that were written")
    return header, body


Arrays = dict[str, NDArray[Any]]


def _views(header: dict[str, Any], body: NDArray[np.uint8]) -> tuple[Arrays, Arrays]:
    def view(name: str, kind: str, rows: int, columns: int) -> NDArray[Any]:
        first, length = header["layout"][name]
        expected = rows * columns * np.dtype(kind).itemsize
        if length != expected or first % ALIGNED or not 0 <= first <= len(body) - length:
            raise ValueError(f"{length} bytes of {name} at {first}, expected {expected}")
        values = body[first : first + length].view(kind)
        return values.reshape(-1, columns) if columns > 1 else values

    offsets: Arrays = {}
    for name in OFFSETS:
        offsets[name] = np.array(view(f"{name}_offsets", "<i8", header["count"] + 1, 1))
        if offsets[name][0] != 0 or (np.diff(offsets[name]) < 0).any():
            raise ValueError(f"offsets of {name} that do not ascend from 0")
    arrays = {
        name: view(name, kind, int(offsets[_COUNTED_BY.get(name, name)][-1]), columns)
        for name, (kind, columns) in SECTIONS.items()
    }
    return arrays, offsets


def _check(arrays: Arrays, offsets: Arrays) -> None:
    """Every number points at something: an encoder would index with it."""
    counts = {name: np.diff(values) for name, values in offsets.items()}
    good = counts["atoms"] > 0
    limits = {
        "atoms": (0, np.array(ATOM_SIZES)),
        "bonds": (0, np.array(BOND_SIZES)),
        "motif_ids": (0, MOTIFS),
        "ends": (0, np.repeat(counts["atoms"], counts["bonds"])[:, None]),
        "motif": (0, np.repeat(counts["motif_ids"], counts["atoms"])),
    }
    for name, (low, high) in limits.items():
        if not ((arrays[name] >= low) & (arrays[name] < high)).all():
            raise ValueError(f"{name} out of range")
    if (counts["atoms"] > MAX_ATOMS).any() or (counts["motif_ids"] < 1)[good].any():
        raise ValueError("molecules of impossible sizes")
    if (
        len(np.unique(arrays["motif"] + np.repeat(offsets["motif_ids"][:-1], counts["atoms"])))
        != counts["motif_ids"].sum()
    ):
        raise ValueError("a motif without atoms")
    bytes(arrays["smiles"]).decode()
