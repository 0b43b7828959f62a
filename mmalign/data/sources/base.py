"""Base class of a source: lists records and fetches the files named in them, without decoding."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from mmalign.safe_io.printable import printable

RejectionKind = Literal["bad row", "missing value", "missing file", "bad sample"]

RESERVED = ("id", "group", "label", "split")
"""Names in `columns` that are not towers."""


@dataclass
class SourceConfig:
    """Configuration of a source; each source reads the fields that it needs.

    Args:
        source: Registered name of the source.
        manifest: The table, folder or shards to read.
        files: Folder, tar or zip with the files named in the manifest; default: the manifest's folder.
        columns: Tower -> column. Besides towers: `id`, `group`, `label`, `split`, taken from columns of those
            names when not given.
        separator: Separator between several captions (or labels) in one cell.
        options: Further arguments of the source.
        towers: The model's towers -> True where a string is itself a sample (text), False where it names a file.
        file_suffixes: Tower -> endings of strings that name a file although strings are samples.
        separable: Tower -> False where `separator` does not divide its cells, because it may be a part of a sample.
        bare_suffixes: Endings that a file's name may lack, such as `.hea` of WFDB records.
        max_file_bytes: Size of the largest file that some modality of the towers accepts.
    """

    source: str = "manifest"
    manifest: str | None = None
    files: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    separator: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    towers: dict[str, bool] = field(default_factory=dict)
    file_suffixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    separable: dict[str, bool] = field(default_factory=dict)
    bare_suffixes: tuple[str, ...] = ()
    max_file_bytes: int = 1 << 30

    def names_file(self, tower: str, value: str) -> bool:
        """Whether a string of this tower names a file of the source, instead of being a sample.

        Example:
            >>> config = SourceConfig(towers={"molecule": True}, file_suffixes={"molecule": (".sdf",)})
            >>> config.names_file("molecule", "CCO"), config.names_file("molecule", "a.SDF")
            (False, True)
        """
        if not self.towers.get(tower, True):
            return True
        return "\n" not in value and value.lower().endswith(self.file_suffixes.get(tower, ()))


@dataclass(frozen=True)
class Rejected:
    """One row that cannot be used, and why.

    Args:
        location: Location of the row: `names.tsv:17`.
        id: The row's id.
        tower: The tower at fault, "" if it is the row itself.
        file: The file at fault as named in the row, "" if the value is in the row.
        reason: What was expected and what was found.
        kind: `bad row` = the row itself; of a tower's value: `missing value`, `missing file`, or `bad sample` = it
            cannot be decoded.
    """

    location: str
    id: str
    tower: str
    file: str
    reason: str
    kind: RejectionKind = "bad row"

    def __str__(self) -> str:
        where = " ".join(part for part in (self.location, self.tower, self.file) if part)
        return printable(f"{where}: {self.reason}")


@dataclass(frozen=True)
class Record:
    """One row of data, not decoded.

    Args:
        id: Unique in its source.
        location: Location for messages: `names.tsv:17`.
        values: Tower -> its raw values: strings (text itself or a file's name), bytes or arrays; several where a row
            has several captions. A tower that the row lacks is absent.
        group: Records of one group, such as a patient, always fall into the same split.
        labels: Classes, for zero-shot evaluation; several for multi-label data.
        split: train, validation, test or another name; None if the source has none.
        problem: Why the source rejects the row.
        targets: Known target numbers by name, for evaluation.
    """

    id: str
    location: str
    values: Mapping[str, tuple[Any, ...]]
    group: str | None = None
    labels: tuple[str, ...] = ()
    split: str | None = None
    problem: Rejected | None = None
    targets: Mapping[str, float] = field(default_factory=dict)


class Source(ABC):
    """A list of records, and access to the files named in them; picklable for loader workers.

    Class attributes:
        default_columns: Tower -> default column; empty if the user must set the columns.
    """

    default_columns: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: SourceConfig) -> None:
        self.config = config

    @abstractmethod
    def records(self) -> Sequence[Record]:
        """All rows, in the order of the source."""

    @abstractmethod
    def fetch(self, name: str) -> Path | bytes:
        """The file that a record names.

        Raises:
            MissingFile: there is no such file.
            BadSample: it lies outside the source, or cannot be read.
        """

    def corpus(self, tower: str) -> Sequence[Record] | None:
        """The full gallery of a tower, where a benchmark defines one beyond the split; optional.

        Args:
            tower: The tower of the gallery.

        Returns:
            Records with values of that tower only. One that is also in `records` has the same `id`.
            None where there is no such list: the gallery is then the split.
        """
        return None

    def grouped(self, corpus: Sequence[Record]) -> Sequence[Record]:
        """The corpus with groups, where these are slow to compute: read for relevance `group` only; optional."""
        return corpus

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the data's content, for provenance: equal content = equal hash on any machine."""
