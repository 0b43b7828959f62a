"""Mined hard negatives: a table, and what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmalign.data.batching.negatives_file import write_negatives
from mmalign.safe_io.printable import printable

REASONS = {
    "without_a_tower": "records without one of the towers, or whose sample cannot be read",
    "related": "records of the same content or group among the first ranks: never candidates",
    "skipped": "candidates of the first ranks (skip)",
    "above_margin": "candidates that score too high beside the record's own pair (margins, max_score)",
    "below_min_score": "candidates that score too low (min_score)",
    "beyond": "candidates beyond the number of negatives",
    "chosen": "negatives",
    "records_without": "records without a negative",
}


@dataclass(frozen=True)
class MinedNegatives:
    """Hard negatives of records; `write` stores them for `data.neighbours`.

    Args:
        columns: The columns of the file, see `mmalign.data.batching.negatives_file.COLUMNS`.
        counts: Records, and what happened to their candidates; the names are those of `REASONS`.
        towers: Tower of the queries and tower of the candidates.
        bundle: Hash of the model, "" if unknown.
    """

    columns: Mapping[str, Any]
    counts: Mapping[str, int]
    towers: tuple[str, str]
    bundle: str = ""

    def __len__(self) -> int:
        return len(self.columns["id"])

    def write(self, path: Path | str) -> None:
        """Write one row per record and negative, as Parquet or CSV by the ending of the path."""
        write_negatives(self.columns, path)

    def to_json(self) -> dict[str, Any]:
        """Towers and counts as JSON values."""
        return {"towers": list(self.towers), "bundle": self.bundle, "counts": dict(self.counts)}

    def show(self, most: int = 5) -> None:
        """Print the counts and the first negatives."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        a, b = map(printable, self.towers)
        counts = Table("", "number", title=f"{a} -> {b}: {self.counts['records']} records")
        for name, reason in REASONS.items():
            counts.add_row(reason, str(self.counts[name]))
        table = Table("id", "negative", "rank", "score", "own pair", title="the first negatives")
        names = ("id", "negative", "rank", "score", "positive_score")
        for cells in list(zip(*(self.columns[name][:most] for name in names), strict=True)):
            texts = [f"{cell:.4g}" if isinstance(cell, float) else printable(str(cell)) for cell in cells]
            table.add_row(*map(Text, texts))
        Console().print(counts, table)
