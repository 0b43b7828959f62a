"""`mmalign check`: content of the data, unusable records, duplicates, leakage between splits."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmalign.capabilities import Truncating
from mmalign.data.batching.batches import content_key
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.files.folder import content_sha256
from mmalign.data.sources.base import Record, Rejected
from mmalign.data.truncation import Truncated, truncated
from mmalign.errors import UserError
from mmalign.modality import Modality
from mmalign.safe_io.printable import printable

_SHOWN = 20
_EXAMPLES = 5


@dataclass(frozen=True)
class Shared:
    """Content that occurs in several records.

    Args:
        of: The tower, or `group`.
        value_is_sample: True where equal strings are expected: two images may have the same caption.
        contents: Number of distinct shared contents.
        rows: Number of records that share them.
        examples: Some of them, as lists of the records that share one.
    """

    of: str
    value_is_sample: bool
    contents: int
    rows: int
    examples: list[str]


@dataclass(frozen=True)
class CheckReport:
    """Result of `check`.

    Args:
        rows: All rows of the source.
        towers: Tower -> usable rows that have it.
        splits: Split -> usable rows.
        labels: Label -> usable rows, most frequent first.
        groups: Number of distinct groups.
        problems: Every unusable row with its reason.
        duplicates: Equal content in several rows, by tower (bytes of files and values compared, not names).
        leakage: Equal content, or one group, in several splits.
        truncated: Samples that are longer than the limit of the tower's default preprocessing, by tower.
        sheet: Path of the sample sheet, None if not drawn.
    """

    rows: int
    towers: dict[str, int]
    splits: dict[str, int]
    labels: dict[str, int]
    groups: int
    problems: list[Rejected]
    duplicates: list[Shared] = field(default_factory=list)
    leakage: list[Shared] = field(default_factory=list)
    truncated: list[Truncated] = field(default_factory=list)
    sheet: str | None = None

    @property
    def bad(self) -> int:
        """Number of unusable rows."""
        return len(self.problems)

    @property
    def kinds(self) -> dict[str, int]:
        """Number of unusable rows by kind: missing file, missing value, bad sample, bad row."""
        return dict(Counter(problem.kind for problem in self.problems))

    def to_json(self) -> dict[str, Any]:
        """The whole report as JSON values."""
        return {"bad": self.bad, "kinds": self.kinds, **asdict(self)}

    def show(self, console: Console | None = None) -> None:
        """Print a summary, then the bad rows."""
        console = console or Console()
        table = Table("", "", box=None, show_header=False)
        table.add_row("rows", f"{self.rows}, of which {self.bad} cannot be used")
        for name, counts in (("towers", self.towers), ("splits", self.splits), ("labels", self.labels)):
            shown = ", ".join(f"{key} {count}" for key, count in list(counts.items())[:_SHOWN])
            more = f" ... {len(counts)} in all" if len(counts) > _SHOWN else ""
            table.add_row(name, escape(printable(shown + more)) or "none")
        if self.groups:
            table.add_row("groups", str(self.groups))
        for name, groups in (("equal content", self.duplicates), ("in two splits", self.leakage)):
            for shared in groups:
                what = " (sentences may be equal)" if shared.value_is_sample else ""
                line = f"{shared.of}{what}: {shared.contents} in {shared.rows} rows, e.g. {shared.examples[0]}"
                table.add_row(name, escape(printable(line)))
        for count in self.truncated:
            table.add_row("truncated", escape(printable(f"{count} by the default preprocessing")))
        if self.sheet:
            table.add_row("sheet", escape(self.sheet))
        console.print(table)
        for problem in self.problems[:_SHOWN]:
            console.print(f"[red]{problem.kind}[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        if self.bad > _SHOWN:
            console.print(f"... and {self.bad - _SHOWN} more; --json lists all")


def check_samples(config: DataConfig, modalities: Mapping[str, Modality], *, sheet: Path | None = None) -> CheckReport:
    """Read every row and decode every sample, continuing after errors.

    Args:
        config: Where the data come from.
        modalities: Tower -> how it is decoded.
        sheet: Draw some rows here (PNG).

    Raises:
        UserError: the source cannot be opened, or lacks a column.
    """
    data = Dataset.open(config, modalities, accept_all=True)
    bad, records = {**data.unusable, **data.missing}, data.records
    good = [index for index in range(len(records)) if index not in bad]
    known: dict[Path, str] = {}
    with ThreadPoolExecutor(2) as pool:
        contents = dict(zip(good, pool.map(lambda index: _contents(data, records[index], known), good), strict=True))
    value_is_sample = {tower: modality.value_is_sample for tower, modality in modalities.items()}
    duplicates, leakage = [], []
    for tower in data.towers:
        owners: dict[Hashable, list[int]] = defaultdict(list)
        for index in good:
            for key in contents[index].get(tower, ()):
                owners[key].append(index)
        duplicates += _shared(tower, value_is_sample[tower], [rows for rows in owners.values() if len(rows) > 1], data)
        leakage += _shared(
            tower, value_is_sample[tower], [rows for rows in owners.values() if _splits(rows, data) > 1], data
        )
    groups: dict[str, list[int]] = defaultdict(list)
    for index in good:
        if (group := records[index].group) is not None:
            groups[group].append(index)
    leakage += _shared("group", False, [rows for rows in groups.values() if _splits(rows, data) > 1], data)
    if sheet is not None and good:
        draw_sheet(data, good, sheet)
    return CheckReport(
        rows=len(records),
        towers={tower: sum(tower in records[index].values for index in good) for tower in data.towers},
        splits=dict(Counter(data.splits[index] for index in good).most_common()),
        labels=dict(Counter(label for index in good for label in records[index].labels).most_common()),
        groups=len(groups),
        problems=[bad[index] for index in sorted(bad)],
        duplicates=duplicates,
        leakage=leakage,
        truncated=_truncated(data, good),
        sheet=str(sheet) if sheet is not None and good else None,
    )


def draw_sheet(data: Dataset, indices: Sequence[int], path: Path, *, rows: int = 8) -> None:
    """Draw evenly spaced records, one line per record and one column per tower."""
    from matplotlib.figure import Figure

    rows = min(rows, len(indices))
    chosen = [indices[step * len(indices) // rows] for step in range(rows)]
    figure = Figure(figsize=(3 * len(data.towers), 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, len(data.towers), squeeze=False)
    for line, index in zip(axes, chosen, strict=True):
        record = data.records[index]
        for tower, cell in zip(data.towers, line, strict=True):
            cell.set_axis_off()
            if tower in record.values:
                data.modalities[tower].picture(data.store.get(index, tower), cell)
            title = " ".join([record.location, tower, *record.labels[:1]])
            cell.set_title(title[:60], fontsize=8, parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a script for which the font has no glyphs
        figure.savefig(path, dpi=100, format="png")


def _contents(data: Dataset, record: Record, known: dict[Path, str]) -> dict[str, set[Hashable]]:
    contents = {}
    for tower in data.towers:
        raw = [data.store.raw(record, tower, index) for index in range(len(record.values.get(tower, ())))]
        contents[tower] = {
            content_sha256(value, known) if isinstance(value, Path) else content_key(value) for value in raw
        }
    return contents


def _truncated(data: Dataset, good: Sequence[int]) -> list[Truncated]:
    """By each modality's default encoder and settings; a transform that has to learn does so from all samples."""
    counts = []
    for tower in data.towers:
        modality = data.modalities[tower]
        try:
            transform = modality.transform(next(iter(modality.encoders)), {})
        except UserError:  # it has no default preprocessing
            continue
        if not good or not isinstance(transform, Truncating):
            continue
        keys = [(index, one) for index in good for one in range(len(data.records[index].values.get(tower, ())))]
        transform.fit(data.store.get(index, tower, one) for index, one in keys)
        count = truncated(tower, transform, (data.store.get(index, tower, one) for index, one in keys))
        counts += [] if count is None else [count]
    return counts


def _shared(of: str, value_is_sample: bool, owners: list[list[int]], data: Dataset) -> list[Shared]:
    if not owners:
        return []
    examples = [
        " = ".join(f"{data.records[index].location} ({data.splits[index]})" for index in _apart(rows, data))
        for rows in owners[:_EXAMPLES]
    ]
    return [Shared(of, value_is_sample, len(owners), len({index for rows in owners for index in rows}), examples)]


def _apart(rows: list[int], data: Dataset) -> list[int]:
    """Two rows that share a content, from two splits if possible."""
    other = next((index for index in rows if data.splits[index] != data.splits[rows[0]]), rows[1])
    return [rows[0], other]


def _splits(rows: list[int], data: Dataset) -> int:
    return len({data.splits[index] for index in rows})
