"""Disk cache of molecule features: ragged arrays in one memory-mapped file, named by a hash of its input."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.errors import BadSample, UserError
from mmalign.registry import missing_extra
from modalities.molecule.cache import ragged_file as ragged
from modalities.molecule.cache.ragged_file import ALIGNED, Arrays, Part, Section
from modalities.molecule.sample import ATOM_SIZES, BOND_SIZES, MAX_ATOMS, MOTIFS, Molecule

MAGIC = b"mmalign molecules 1\n"
SECTIONS = {
    "atoms": Section("<i2", len(ATOM_SIZES), "atoms"),
    "bonds": Section("<i2", len(BOND_SIZES), "bonds"),
    "ends": Section("<i2", 2, "bonds"),
    "motif": Section("<i2", 1, "atoms"),
    "motif_ids": Section("<i2", 1, "motif_ids"),
    "smiles": Section("<u1", 1, "smiles"),
}
OFFSETS = ragged.offset_names(SECTIONS)
__all__ = ["ALIGNED", "MAGIC", "FeatureStore"]


class FeatureStore(Sequence[Molecule]):
    """Molecules of a list of SMILES, in order, read from disk on access.

    Magic, sizes, SHA-256 and the range of every number are checked before use. A file contains no code. Molecules
    rejected by rdkit keep their index and the reason.

    Args:
        path: A file written by `build`.

    Raises:
        UserError: it is damaged, of another kind, or written by another version of this code or of rdkit.

    Example:
        >>> import tempfile
        >>> from modalities.molecule.cache.graph_cache import FeatureStore
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = FeatureStore.build(["CCO", "C1CC", "[Na+].[Cl-]"], folder)
        ...     len(store), store[2].smiles, sorted(store.rejected)
        (3, '[Na+].[Cl-]', [1])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with ragged.usable(self.path, "molecules"):
            header, self._arrays, self._offsets = ragged.read(self.path, MAGIC, SECTIONS, versions())
            _check(self._arrays, self._offsets)
            self.rejected: Mapping[int, BadSample] = {
                int(row): BadSample(*reason) for row, reason in header["rejected"].items()
            }
            if sorted(self.rejected) != np.flatnonzero(np.diff(self._offsets["atoms"]) == 0).tolist():
                raise ValueError("molecules without atoms that no reason is given for")

    @classmethod
    def build(cls, smiles: Iterable[str], folder: str | Path, workers: int = 0) -> "FeatureStore":
        """Open the store of these SMILES in this folder; build it if missing or unusable.

        Args:
            smiles: In order; duplicates are featurised separately.
            folder: Created if missing. A file's name is a hash of the SMILES, the featuriser's version and rdkit's.
            workers: Number of processes that build it.

        Raises:
            UserError: an entry is no text, or is a file name, whose content the hash would not cover.
        """
        rows = list(smiles)
        for index, row in enumerate(rows):
            if not is_smiles(row):
                raise UserError(f"a store is made of SMILES; entry {index} is {row!r}: read files one by one instead")
        path = Path(folder) / f"{ragged.key(MAGIC, versions(), rows)}.molecules"

        def write() -> None:
            ragged.write(path, MAGIC, SECTIONS, versions(), ragged.parts_of(featurised, rows, workers))

        return ragged.opened_or_built(path, cls, write)

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open a file written by `build`."""
        return cls(path)

    def __len__(self) -> int:
        return len(self._offsets["atoms"]) - 1

    def __getitem__(self, row: Any) -> Any:
        """One molecule, or the list of molecules of a slice.

        Raises:
            BadSample: rdkit rejected this one.
        """
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(len(self)))]
        index = int(row) + len(self) * (row < 0)
        if not 0 <= index < len(self):
            raise IndexError(f"row {row} of {len(self)} molecules")
        if index in self.rejected:
            raise self.rejected[index]
        fields = {}
        for name, array in self._arrays.items():
            offsets = self._offsets[SECTIONS[name].by]
            fields[name] = array[offsets[index] : offsets[index + 1]]
        text = fields.pop("smiles").tobytes().decode()
        # Copies, because a sample is kept and pickled without the file.
        return Molecule(text, **{name: np.array(values) for name, values in fields.items()})

    def __iter__(self) -> Iterator[Molecule]:
        """The accepted molecules, in order."""
        return (self[index] for index in range(len(self)) if index not in self.rejected)

    def texts(self) -> list[str]:
        """The SMILES of the accepted molecules, in order."""
        ends = self._offsets["smiles"].tolist()
        whole = self._arrays["smiles"].tobytes()
        return [
            whole[ends[index] : ends[index + 1]].decode() for index in range(len(self)) if index not in self.rejected
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureStore, (self.path,)


def versions() -> dict[str, Any]:
    """Versions of the featuriser and of rdkit."""
    try:
        from rdkit import rdBase

        from modalities.molecule.chem.featurise import VERSION
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "rdkit", "molecule") from error
    return {"featuriser": VERSION, "rdkit": rdBase.rdkitVersion}


def is_smiles(value: Any) -> bool:
    """Whether this is a SMILES and not a file name."""
    return isinstance(value, str) and not value.lower().endswith((".mol", ".sdf"))


def featurised(rows: Sequence[str]) -> Part:
    """The molecules of these SMILES, in the file's layout."""
    from modalities.molecule.read import read_molecule

    values = {name: bytearray() for name in SECTIONS}
    lengths: dict[str, list[int]] = {name: [] for name in OFFSETS}
    rejected = {}
    for index, row in enumerate(rows):
        try:
            molecule = read_molecule(row)
        except BadSample as error:
            rejected[index] = [error.source, error.expected, error.came]
            for name in OFFSETS:
                lengths[name].append(0)
            continue
        text = molecule.smiles.encode()
        for name in SECTIONS:
            values[name] += text if name == "smiles" else getattr(molecule, name).astype("<i2").tobytes()
        for name in OFFSETS:
            lengths[name].append(len(text) if name == "smiles" else len(getattr(molecule, name)))
    return Part(lengths, {name: bytes(data) for name, data in values.items()}, rejected)


def _check(arrays: Arrays, offsets: Arrays) -> None:
    """Check the range of all numbers, because encoders index with them."""
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
