"""A query and its ranked answers, and their export as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmalign.safe_io.safe_writing import replaced
from mmalign.types import Embedding

COLUMNS = ("rank", "id", "score", "uncertainty", "labels", "group", "value", "equal_rows")


@dataclass(frozen=True)
class Query:
    """An embedded query.

    Args:
        tower: Its tower.
        sample: As `Modality.read` returns it.
        embedding: One row.
        title: What it is, such as a file name or the id of a row.
        uncertainty: See `Embedding.uncertainty`; None if the model has none.
        notes: What a reader of its answers has to know.
        without: Id of the record that is left out of the answers: that of the query.
    """

    tower: str
    sample: Any
    embedding: Embedding
    title: str
    uncertainty: float | None = None
    notes: Sequence[str] = ()
    without: str | None = None


@dataclass(frozen=True)
class Answer:
    """One row of the table.

    Args:
        row: Its index.
        id: Id of its record.
        score: Similarity with the query, higher = more similar.
        uncertainty: See `Embedding.uncertainty`; None if the table has none.
        labels: Classes of the record.
        group: Group of the record, such as a patient; "" = unknown.
        value: The item's string, a sentence or a file name; None if it was none.
        equal_rows: Further rows of equal content among the best, which are not listed.
    """

    row: int
    id: str
    score: float
    uncertainty: float | None
    labels: Sequence[str]
    group: str
    value: str | None
    equal_rows: int = 0

    @property
    def name(self) -> str:
        """Id and classes of the record."""
        return " · ".join([self.id, *self.labels])


@dataclass(frozen=True)
class Answers:
    """The answers to a query, best first.

    Args:
        query: The query.
        answers: The best rows of different content.
        searched: Number of rows that were compared, after the filters.
        score: What the score is.
    """

    query: Query
    answers: Sequence[Answer]
    searched: int
    score: str

    @property
    def margin(self) -> float | None:
        """Difference of the first two scores: a small one means that the first place is uncertain."""
        return self.answers[0].score - self.answers[1].score if len(self.answers) > 1 else None

    def write(self, path: Path | str) -> Path:
        """Write one row per answer as CSV, see `COLUMNS`; several labels are separated by a semicolon."""
        with (
            replaced(path) as partial,
            partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for rank, one in enumerate(self.answers, 1):
                uncertainty = "" if one.uncertainty is None else f"{one.uncertainty:.6g}"
                labels = ";".join(one.labels)
                value = "" if one.value is None else one.value
                writer.writerow(
                    [rank, one.id, f"{one.score:.6g}", uncertainty, labels, one.group, value, one.equal_rows]
                )
        return Path(path)
