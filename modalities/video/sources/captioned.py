"""What sources of captioned videos share: their annotation files, the videos of these, their records."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from mmalign.data.files.open import open_store
from mmalign.data.sources.base import Record, Rejected, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import UserError
from modalities.common.sources.published_dataset import file_size, fingerprint_of, tower_values, towers_of

COLUMNS = ("video", "text", "id", "group", "split")
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".gif", ".npz")
"""Endings of video files, the preferred one first where a video is there twice."""

SPAN = "#t="
"""Between the name of a file and the start and end, in seconds, of the part that is meant (W3C media fragments)."""


@dataclass(frozen=True)
class Captioned:
    """One row of an annotation file.

    Args:
        id: Unique in its source.
        location: Location for messages: `val_1.json:v_abc`.
        names: Names of the video, the first one that is found counts; without ending, or with it.
        texts: Its captions.
        split: Its split; None where the data set has none.
        group: Rows of one group belong to the same split.
        problem: Why the row cannot be used, "" if it can.
    """

    id: str
    location: str
    names: tuple[str, ...]
    texts: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    problem: str = ""


class CaptionedVideos(Source):
    """A source whose rows are a video and its captions; a row whose video is missing is rejected.

    A subclass reads the annotations and hands them to this class.

    Class attributes:
        kind: The name of the data set.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"video": "video", "text": "text"}
    kind: ClassVar[str]

    def __init__(self, config: SourceConfig, folder: Path, captioned: Iterable[Captioned]) -> None:
        super().__init__(config)
        self._columns = named_columns(config, COLUMNS, self.kind, self.default_columns)
        self._towers = towers_of("video", self._columns)
        self._store = open_store(config.files or folder)
        self._where = str(config.files or folder)
        files = _by_stem(self._store.names()) if self._towers else {}
        seen: set[str] = set()
        self._records = [self._record(row, files, seen) for row in captioned]
        if not self._records:
            raise UserError(f"{folder}: expected captions of {self.kind}, got none")

    def _record(self, row: Captioned, files: Mapping[str, str], seen: set[str]) -> Record:
        file = next((match for name in row.names if (match := _find(name, files))), "")
        problem, tower = row.problem, ""
        if not problem and row.id in seen:
            problem = f"expected each id once, got {row.id[:80]!r} again"
        if not problem and not row.texts:
            problem = "expected a caption, got none"
        if not problem and not file and self._towers:
            tower = self._towers[0]
            wanted = " or ".join(name.partition(SPAN)[0] for name in row.names)
            problem = f"expected the video {wanted[:80]} in {self._where}, got no such file"
        seen.add(row.id)
        cells: dict[str, tuple[Any, ...]] = {"video": (file,) if file else (), "text": row.texts, "id": (row.id,)}
        return Record(
            row.id,
            row.location,
            tower_values(cells, self._columns),
            row.group,
            split=row.split,
            problem=Rejected(row.location, row.id, tower, "", problem) if problem else None,
        )

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        """The file, and behind its name the part of it that is meant, if any."""
        file, span, times = name.partition(SPAN)
        content = self._store.fetch(file)
        if not span:
            return content
        if isinstance(content, bytes):
            raise UserError(f"{self._where}: parts of videos are read from a folder; unpack the archive")
        return content.with_name(f"{content.name}{SPAN}{times}")

    def fingerprint(self) -> str:
        """Of all rows, and of the sizes of the videos; their content is not read."""
        values = (row.values.get(tower, ()) for row in self._records for tower in self._towers)
        names = {value.partition(SPAN)[0] for alternatives in values for value in alternatives}
        digest = hashlib.sha256(fingerprint_of(self._records, {}, ()).encode())
        for name in sorted(names):
            digest.update(f"{name} {file_size(name, {'': self._store})}".encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def annotation_files(config: SourceConfig, names: Mapping[str, str]) -> tuple[Path, list[tuple[Path, str | None]]]:
    """The folder of the data set, and its annotation files with their splits.

    Args:
        config: Its `manifest` is an annotation file, or the folder with some of them.
        names: Name of a file -> its split.

    Raises:
        UserError: none is named, or none is there.
    """
    if not config.manifest:
        known = f" with {' or '.join(names)}" if names else ""
        raise UserError(f"source {config.source!r} needs the captions: --data.manifest FILE.json or FOLDER{known}")
    path = Path(config.manifest).expanduser()
    if not path.is_dir():
        return path.parent, [(path, names.get(path.name))]
    files: list[tuple[Path, str | None]] = [(path / name, names[name]) for name in names if (path / name).is_file()]
    if not files:
        raise UserError(f"{path}: expected {' or '.join(names) or 'a JSON file, not a folder'}, got none")
    return path, files


def captions(value: Any) -> tuple[str, ...]:
    """The captions in a value of JSON: a string, or a list of strings; blank ones and other values are left out.

    Example:
        >>> captions("a dog runs"), captions(["a dog ", "", 3]), captions(None)
        (('a dog runs',), ('a dog',), ())
    """
    values = value if isinstance(value, list) else [value]
    return tuple(text.strip() for text in values if isinstance(text, str) and text.strip())


def _by_stem(names: Sequence[str]) -> dict[str, str]:
    """Name of a video without folder and ending, and its whole name -> its whole name."""
    by_stem: dict[str, str] = {}
    videos = [path for name in names if (path := PurePosixPath(name)).suffix.lower() in SUFFIXES]
    for path in sorted(videos, key=lambda path: (SUFFIXES.index(path.suffix.lower()), str(path))):
        by_stem.setdefault(path.stem, str(path))
        by_stem.setdefault(path.name, str(path))
    return by_stem | {name: name for name in names}


def _find(name: str, files: Mapping[str, str]) -> str:
    """The file of a name, with the name's part of the video; "" if there is none."""
    stem, span, times = name.partition(SPAN)
    file = files.get(stem, "")
    return f"{file}{span}{times}" if file else ""
