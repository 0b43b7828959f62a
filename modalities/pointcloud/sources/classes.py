"""What sources of classified shapes share: their records, their sentences, their fingerprint."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmalign.data.files.open import open_store
from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import BadSample, UserError
from modalities.common.reading.local_file import demand_file, is_file
from modalities.common.sources.published_dataset import tower_values
from modalities.pointcloud.sources.hdf5_rows import MARK, cloud_of_row

MAX_NAME = 200
"""Longest name of a file in a list; systems take up to 255 bytes."""

COLUMNS: tuple[str, ...] = ("pointcloud", "text", "label", "id", "split")


def sentence_of(label: str) -> str:
    """A class name as a sentence.

    Example:
        >>> sentence_of("airplane"), sentence_of("flower pot")
        ('an airplane', 'a flower pot')
    """
    return f"{'an' if label[:1] in 'aeiou' else 'a'} {label}"


def readable(name: str) -> str:
    """The words of a class name: `flower_pot` is a flower pot."""
    return name.strip().replace("_", " ")


def names_in(path: Path) -> tuple[str, ...]:
    """The lines of a list, without empty ones.

    Raises:
        UserError: it is not there or not UTF-8.
    """
    try:
        demand_file(path, "a list of names")
        return tuple(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
    except (BadSample, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a list of names, one a line, got {type(error).__name__}") from error


def listed_files(path: Path) -> tuple[str, ...]:
    """The lines of a list of files, without empty ones.

    Raises:
        UserError: as `names_in`, or a line is no plain file name.
    """
    names = names_in(path)
    for name in names:
        if any(letter in name for letter in "/\\\0") or len(name) > MAX_NAME:
            raise UserError(f"{path}: expected names of files without folders, got {name[:60]!r}")
    return names


def shapes_folder(config: SourceConfig, source: str) -> Path:
    """The folder that the user names.

    Raises:
        UserError: none is named, or it is not there.
    """
    path = config.manifest or config.files
    if not path:
        raise UserError(f"source {source!r} needs the unpacked data set: --data.manifest FOLDER")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected the folder of source {source!r}, got {'a file' if folder.exists() else 'nothing'}"
        )
    return folder


class ClassifiedShapes(Source):
    """A source whose rows are a cloud, its class, and the class as a sentence.

    A subclass lists `(name of the file, class, split)`; a name `FILE.h5#ROW` is a row of an HDF5 file.

    Class attributes:
        kind: The name of the data set.
        columns: Those that it has.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"pointcloud": "pointcloud", "text": "text"}
    kind: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = COLUMNS

    def __init__(self, config: SourceConfig, folder: Path, shapes: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(config)
        self._columns = named_columns(config, self.columns, self.kind, self.default_columns)
        self.folder, self._store = folder, open_store(folder)
        self._shapes = list(shapes)
        self._files = {name.partition(MARK)[0] for name, _, _ in self._shapes}
        if not self._shapes:
            raise UserError(f"{folder}: expected shapes of {self.kind}, got none")

    def records(self) -> Sequence[Record]:
        return [self._record(*shape) for shape in self._shapes]

    def _record(self, name: str, label: str, split: str) -> Record:
        words = readable(label)
        cells: dict[str, tuple[Any, ...]] = {
            "pointcloud": (name,), "text": (sentence_of(words),), "label": (words,), "id": (name,), "split": (split,),
        }  # fmt: skip
        cells |= self.further_cells(name, label)
        return Record(name, name, tower_values(cells, self._columns), None, (words,), split)

    def further_cells(self, name: str, label: str) -> dict[str, tuple[Any, ...]]:
        """Other columns, or other values, of a row; by default none."""
        return {}

    def fetch(self, name: str) -> Path | bytes:
        if MARK in name:
            return cloud_of_row(self.folder, name, self._files)
        return self._store.fetch(name)

    def fingerprint(self) -> str:
        """Of the names, classes and splits, and of the sizes of the files; their content is not read."""
        digest = hashlib.sha256(repr(sorted(self._shapes)).encode("utf-8", "backslashreplace"))
        for name in sorted(self._files):
            path = self.folder / name
            digest.update(f"{name} {path.stat().st_size if is_file(path) else -1}".encode())
        return digest.hexdigest()
