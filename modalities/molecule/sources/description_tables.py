"""Tables of molecules and descriptions: base of the sources `chebi20` and `pcdes`."""

import hashlib
import logging
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from mmalign import distributed
from mmalign.data.sources.base import Record, Rejected, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.data.sources.rows import Row
from mmalign.data.sources.tables import read_table
from mmalign.errors import BadSample, UserError
from mmalign.registry import nearest
from modalities.common.sources.published_dataset import tower_values
from modalities.molecule.chem.inchikey import GROUPS, Kept, groups

_LOG = logging.getLogger("mmalign")

SPLITS = ("train", "validation", "test")
COLUMNS = ("smiles", "text", "id", "group", "split")
NEEDED = ("CID", "SMILES", "description")


class Described(NamedTuple):
    """One molecule and its descriptions.

    Args:
        id: Its CID.
        where: Location: `validation.txt:17`.
        split: Its split.
        smiles: Its SMILES.
        texts: Its descriptions.
        problem: Why the row cannot be read, "" if it can.
    """

    id: str
    where: str
    split: str
    smiles: str
    texts: tuple[str, ...]
    problem: str = ""


class DescribedMolecules(Source):
    """A folder with any of train.txt, validation.txt and test.txt: tab separated CID, SMILES and description.

    Class attributes:
        name: The registered name, also the folder's name in `$MMALIGN_DATA`.
        choices: Option -> allowed values, the default first; None = any text.
    """

    name: ClassVar[str]
    choices: ClassVar[Mapping[str, tuple[str, ...] | None]] = {}
    default_columns: ClassVar[Mapping[str, str]] = {"molecule": "smiles", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        self.folder = _folder(config, self.name)
        self.tables = tables(self.folder)
        self._options(config.options)
        self._columns = named_columns(config, COLUMNS, self.name, self.default_columns)
        self._records: list[Record] | None = None

    @abstractmethod
    def described(self) -> list[Described]:
        """All rows, with the splits of their files."""

    def added(self) -> list[Described]:
        """Further rows, for training only."""
        return []

    def records(self) -> Sequence[Record]:
        if self._records is None:
            with Kept(self.options["cache"]):
                rows, added = self.described(), self.added()
                named = groups([row.smiles for row in [*rows, *added]], self.options["group"])
            splits = [*self._splits(rows, named[: len(rows)]), *("train" for _ in added)]
            described = zip([*rows, *added], named, splits, strict=True)
            self._records = [self._record(row, group, split) for row, group, split in described]
        return self._records

    def corpus(self, tower: str) -> Sequence[Record] | None:
        searched = self.searched() if self._columns.get(tower) == "smiles" else None
        if searched is None:
            return None
        return [Record(row.id, row.where, {tower: (row.smiles,)}, split=row.split or None) for row in searched]

    def grouped(self, corpus: Sequence[Record]) -> Sequence[Record]:
        """Half a millisecond each, of those that do not stand for a row of the tables."""
        tower = next(tower for tower, column in self._columns.items() if column == "smiles")
        missing = [index for index, one in enumerate(corpus) if one.group is None]
        with Kept(self.options["cache"]):
            named = groups([corpus[index].values[tower][0] for index in missing], self.options["group"])
        records = list(corpus)
        for index, group in zip(missing, named, strict=True):
            records[index] = replace(records[index], group=group)
        return records

    def searched(self) -> list[Described] | None:
        """The gallery molecules of the benchmark, without texts; None if the folder has no list of them."""
        return None

    def fetch(self, name: str) -> Path | bytes:
        raise BadSample(name, "a SMILES or a text in the row itself", "the name of a file")

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for record in self.records():
            digest.update(repr((record.id, record.values, record.group, record.split)).encode())
        return digest.hexdigest()

    def _options(self, settings: Mapping[str, Any]) -> None:
        own = "file" if "train" in self.tables else "own"
        known: dict[str, tuple[str, ...] | None] = {
            **self.choices, "group": GROUPS, "split": (own, "own" if own == "file" else "file"),
            "cache": None,
        }  # fmt: skip
        self.options: dict[str, Any] = {name: values[0] if values else None for name, values in known.items()}
        for name, value in settings.items():
            if name in ("held", "held_test"):
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise UserError(f"--data.options.{name}: expected how many pairs are held out, got {value!r}")
            elif name not in known:
                near = nearest(name, [*known, "held", "held_test"])
                raise UserError(f"source {self.name!r} has no option {name!r}{near}")
            elif (values := known[name]) is not None and value not in values:
                raise UserError(f"--data.options.{name}: expected one of {', '.join(values)}, got {value!r}")
            self.options[name] = value
        self.held = {"validation": self.options.get("held", 0), "test": self.options.get("held_test", 0)}
        if any(self.held.values()) and self.options["split"] == "file":
            raise UserError("--data.options.held: holds pairs out only where --data.options.split is own, not file")

    def _splits(self, rows: Sequence[Described], named: Sequence[str | None]) -> list[str | None]:
        if self.options["split"] == "file":
            return [row.split for row in rows]
        if not any(self.held.values()):
            return [None] * len(rows)
        return [*held_out([group or f"row {row.id}" for row, group in zip(rows, named, strict=True)], self.held)]

    def _record(self, row: Described, group: str | None, split: str | None) -> Record:
        cells = {"smiles": (row.smiles,) if row.smiles else (), "text": row.texts}
        values = tower_values(cells, self._columns)
        problem = Rejected(row.where, row.id, "", "", row.problem) if row.problem else None
        return Record(row.id, row.where, values, group, split=split, problem=problem)


def tables(folder: Path) -> dict[str, Path]:
    """Split -> its table, for existing tables."""
    return {split: path for split in SPLITS if (path := folder / f"{split}.txt").is_file()}


def read_rows(path: Path, split: str, columns: Sequence[str] = NEEDED) -> Iterator[Described]:
    """The rows of one table with corrected backslashes; unreadable rows are kept with their reason.

    Args:
        path: The table.
        split: Split of its rows.
        columns: The names of its columns for id, SMILES and text; the last may be missing.

    Raises:
        UserError: a column is missing.
    """
    table = read_table(path)
    for name in columns:
        if name not in table.columns:
            raise UserError(f"{path}: expected a column {name!r}, got {', '.join(table.columns)}")
    for row in table.rows(columns):
        cells = [_cell(row, name) for name in columns]
        text = cells[2] if len(cells) > 2 else ""
        yield Described(cells[0] or row.where, row.where, split, mended(cells[1]), (text,) * bool(text), row.problem)


def mended(smiles: str) -> str:
    r"""A SMILES as it was before its backslashes were doubled (about 15 % of ChEBI-20's rows).

    Example:
        >>> from modalities.molecule.sources.description_tables import mended
        >>> mended("C/C=C" + 2 * chr(92) + "C") == "C/C=C" + chr(92) + "C"
        True
    """
    return smiles.replace("\\\\", "\\")


def held_out(groups: Sequence[str], held: Mapping[str, int]) -> list[str]:
    """Splits with given numbers of held-out rows, in whole groups, in an order that depends only on group names.

    Args:
        groups: Group of each row.
        held: Split -> number of rows, fewer only if no further whole group fits; the rest is train.

    Example:
        >>> from modalities.molecule.sources.description_tables import held_out
        >>> held_out(["a", "b", "b", "c"], {"validation": 1, "test": 1})
        ['test', 'train', 'train', 'validation']
    """
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    order = iter(sorted(sizes, key=lambda group: hashlib.blake2b(group.encode(), digest_size=8).digest()))
    left, split_of = dict(held), dict.fromkeys(sizes, "train")
    for group in order:
        split = next((name for name, room in left.items() if room >= sizes[group]), None)
        if split is not None:
            left[split] -= sizes[group]
            split_of[group] = split
    return [split_of[group] for group in groups]


def tell(rows: Sequence[Described], remaining: Sequence[Described], why: str) -> None:
    """Log, once for all processes, the number of rows left out."""
    if distributed.is_first():
        _LOG.warning("%d of %d rows left out: %s", len(rows) - len(remaining), len(rows), why)


def _cell(row: Row, name: str) -> str:
    return str(row.cells.get(name) or "").strip()


def _folder(config: SourceConfig, name: str) -> Path:
    path = config.manifest or config.files
    if path is None:
        root = os.environ.get("MMALIGN_DATA")
        if not root:
            raise UserError(f"source {name!r} needs a folder: --data.manifest FOLDER, or MMALIGN_DATA with {name}")
        path = str(Path(root) / name)
    folder = Path(path).expanduser()
    if not tables(folder):
        files = ", ".join(f"{split}.txt" for split in SPLITS)
        raise UserError(f"{folder}: expected a folder with one of {files} at least, got none of them")
    return folder
