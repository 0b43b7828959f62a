"""Disk cache of raw fingerprint counts of molecules, in one memory-mapped file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.errors import BadSample
from modalities.molecule.cache import ragged_file as ragged
from modalities.molecule.cache.graph_cache import versions
from modalities.molecule.cache.ragged_file import Part, Section
from modalities.molecule.chem.fingerprint import parsed_counts
from modalities.molecule.transform import PARSED, BinCounts, family_sizes

MAGIC = b"mmalign counts 1\n"
VERSION = 2
"""Version; raised whenever the same molecule would have other counts."""


class CountStore:
    """Raw counts (`parsed_counts`) of a list of SMILES, read from disk on access.

    The counts are raw: a transform's fitted statistics are applied afterwards.

    Args:
        path: A file written by `build`.
        bins: Number of bins of each hashed family.
        families: Counted families; those that need no rdkit are left out.
        stereo: Whether stereoisomers are distinguished.

    Raises:
        UserError: it is damaged, foreign, or made with other settings or by other versions.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CountStore.build(["CC", "CCO"], folder, bins=2048, families=["morgan"], stereo=True)
        ...     store[0]["morgan"][1].tolist()
        [2, 1]
    """

    def __init__(self, path: str | Path, *, bins: int, families: Sequence[str], stereo: bool) -> None:
        self.path = Path(path)
        self.families = counted_families(families)
        sizes = dict(zip(self.families, family_sizes(bins, self.families), strict=True))
        with ragged.usable(self.path, "counts"):
            head = _head(bins, self.families, stereo)
            header, self._arrays, self._offsets = ragged.read(self.path, MAGIC, sections_of(self.families), head)
            self.rejected = {int(row): BadSample(*reason) for row, reason in header["rejected"].items()}
            for family, size in sizes.items():
                arrays = self._arrays[f"{family}_bins"], self._arrays[f"{family}_counts"]
                if not ((arrays[0] < size).all() and (arrays[1] > 0).all()):
                    raise ValueError(f"bins or counts of {family} out of range")

    @classmethod
    def build(
        cls,
        smiles: Sequence[str],
        folder: str | Path,
        *,
        bins: int,
        families: Sequence[str],
        stereo: bool,
        workers: int = 0,
    ) -> "CountStore":
        """Open the store of these SMILES in this folder; build it if missing or unusable.

        Args:
            smiles: In order; each can be parsed.
            folder: Created if missing. A file's name is a hash of the SMILES, the settings and the versions.
            bins: Number of bins of each hashed family.
            families: Counted families.
            stereo: Whether stereoisomers are distinguished.
            workers: Number of processes that build it.
        """
        wanted = counted_families(families)
        head = _head(bins, wanted, stereo)
        path = Path(folder) / f"{ragged.key(MAGIC, head, smiles)}.counts"
        settings: dict[str, Any] = {"bins": bins, "families": wanted, "stereo": stereo}

        def write() -> None:
            parts = ragged.parts_of(partial(counted, **settings), smiles, workers)
            ragged.write(path, MAGIC, sections_of(wanted), head, parts)

        return ragged.opened_or_built(path, partial(cls, **settings), write)

    def __len__(self) -> int:
        return len(next(iter(self._offsets.values()))) - 1

    def __getitem__(self, row: int) -> dict[str, BinCounts]:
        """Family -> occurring bins, ascending, and their counts.

        Raises:
            BadSample: rdkit rejected this one.
        """
        if row in self.rejected:
            raise self.rejected[row]
        counts = {}
        for family in self.families:
            first, last = self._offsets[f"{family}_bins"][row : row + 2]
            bins, often = (self._arrays[f"{family}_{what}"][first:last] for what in ("bins", "counts"))
            counts[family] = bins, often
        return counts


def counted_families(families: Sequence[str]) -> tuple[str, ...]:
    """The families that are stored, in a fixed order."""
    return tuple(family for family in PARSED if family in families)


def sections_of(families: Sequence[str]) -> dict[str, Section]:
    """Arrays of a file of these families."""
    names = [(f"{family}_{what}", kind, f"{family}_bins") for family in families for what, kind in _ARRAYS]
    return {name: Section(kind, 1, by) for name, kind, by in names}


_ARRAYS = (("bins", "<u2"), ("counts", "<i4"))


def counted(rows: Sequence[str], *, bins: int, families: Sequence[str], stereo: bool) -> Part:
    """Counts of these SMILES, in the file's layout."""
    values = {name: bytearray() for name in sections_of(families)}
    lengths: dict[str, list[int]] = {f"{family}_bins": [] for family in families}
    rejected = {}
    for index, smiles in enumerate(rows):
        try:
            counts = parsed_counts(smiles, bins, families, stereo=stereo)
        except BadSample as error:
            rejected[index] = [error.source, error.expected, error.came]
            counts = {}
        for family in families:
            for (what, kind), array in zip(_ARRAYS, counts.get(family, ((), ())), strict=True):
                values[f"{family}_{what}"] += np.asarray(array, kind).tobytes()
            lengths[f"{family}_bins"].append(len(counts[family][0]) if counts else 0)
    return Part(lengths, {name: bytes(data) for name, data in values.items()}, rejected)


def _head(bins: int, families: Sequence[str], stereo: bool) -> dict[str, Any]:
    return {**versions(), "counts": VERSION, "bins": bins, "families": list(families), "stereo": stereo}
