"""Filters of an embedded table: its rows by label and by group."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmalign.embedding.table import EmbeddingTable
from mmalign.searching.samples import TableSamples

MOST_CHOICES = 1000
"""Labels or groups that are offered, the most frequent first."""


class Filters:
    """Rows of a table by label, and by the group of their record in the data.

    Args:
        table: The table.
        samples: The data of the table; without data there are no groups.

    Example:
        >>> from mmalign.embedding.stored_vectors import StoredVectors
        >>> vectors = StoredVectors.of(torch.eye(2))
        >>> table = EmbeddingTable(["a", "b"], [0, 0], ["1", "2"], [None] * 2, [("cat",), ("dog",)], vectors, "left")
        >>> Filters(table, None).rows(["dog"]).tolist()
        [1]
    """

    def __init__(self, table: EmbeddingTable, samples: TableSamples | None) -> None:
        self.count = len(table)
        labels: dict[str, list[int]] = defaultdict(list)
        groups: dict[str, list[int]] = defaultdict(list)
        for row, (name, several) in enumerate(zip(table.ids, table.labels, strict=True)):
            for label in several:
                labels[label].append(row)
            record = samples.record(name) if samples is not None else None
            if record is not None and record.group:
                groups[record.group].append(row)
        if all(len(rows) == 1 for rows in groups.values()):  # nothing is grouped
            groups.clear()
        self._labels, self._groups = _arrays(labels), _arrays(groups)

    @property
    def labels(self) -> list[str]:
        """Labels to choose from."""
        return _choices(self._labels)

    @property
    def groups(self) -> list[str]:
        """Groups to choose from."""
        return _choices(self._groups)

    def rows(self, labels: Sequence[str] = (), groups: Sequence[str] = ()) -> Tensor | None:
        """Indices of the rows with one of the labels and one of the groups, ascending; None = all rows.

        Args:
            labels: The labels; none = rows of any label.
            groups: The groups; none = rows of any group.
        """
        parts = [_union(known, chosen) for known, chosen in ((self._labels, labels), (self._groups, groups)) if chosen]
        if not parts:
            return None
        rows = parts[0] if len(parts) == 1 else np.intersect1d(parts[0], parts[1])
        return torch.from_numpy(rows)


def _arrays(rows: Mapping[str, list[int]]) -> dict[str, NDArray[np.int64]]:
    return {name: np.array(several, dtype=np.int64) for name, several in rows.items()}


def _choices(rows: Mapping[str, NDArray[np.int64]]) -> list[str]:
    return sorted(sorted(rows, key=lambda name: (-len(rows[name]), name))[:MOST_CHOICES])


def _union(known: Mapping[str, NDArray[np.int64]], chosen: Iterable[str]) -> NDArray[np.int64]:
    parts = [known[name] for name in chosen if name in known]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
