"""Which answers are right: sparse matrices of query items by gallery items."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.registry import nearest

CREDITS = {
    "pair": "right = of the query's own record",
    "content": "right = of the query's own record, or of exactly equal content to the query or to one of its answers",
    "group": "right = of a record of the query's group",
}


class RelevanceMatrix:
    """Right answers of each query, made a block of queries at a time: `right[start:stop]` is a SciPy CSR matrix.

    A query and a gallery item belong together when they share a key; the credit decides the keys.

    Args:
        queries: The asking side.
        gallery: The answering side.
        records: Of the split; both sides' `rows` point into it.
        credit: pair, content or group.
        candidates: What the gallery's `rows` point into where that is not the split. A candidate is of a record when
            it has its id.

    Raises:
        UserError: unknown credit; `group` where no record has a group.
    """

    def __init__(
        self,
        queries: EmbeddedSplit,
        gallery: EmbeddedSplit,
        records: Sequence[Record],
        *,
        credit: str = "pair",
        candidates: Sequence[Record] | None = None,
    ) -> None:
        if credit not in CREDITS:
            raise UserError(f"no credit called {credit!r}{nearest(credit, CREDITS)}")
        if credit == "group" and all(record.group is None for record in records):
            raise UserError("credit 'group': no record has a group; name the column with --data.columns.group")
        asking, answering = queries.embedding.tower, gallery.embedding.tower
        by_id, answers = candidates is not None, records if candidates is None else candidates
        names: dict[Any, int] = {}
        self._queries = _incidence(
            [_keys(records, row, place, (asking, answering), credit, by_id) for row, place in _items(queries)], names
        )
        self._gallery = _incidence(
            [_keys(answers, row, place, (answering, asking), credit, by_id) for row, place in _items(gallery)], names
        )
        self._queries.resize(len(queries), len(names))
        self._gallery = self._gallery.T.tocsr()

    def __getitem__(self, rows: slice) -> Any:
        right = self._queries[rows] @ self._gallery
        right.sort_indices()
        return right


def _items(side: EmbeddedSplit) -> Iterable[tuple[int, int]]:
    return zip(side.record_indices.tolist(), side.alternative_indices.tolist(), strict=True)


def _keys(
    records: Sequence[Record], row: int, place: int, sides: tuple[str, str], credit: str, by_id: bool
) -> list[Any]:
    record = records[row]
    same: tuple[str, Any] = ("id", record.id) if by_id else ("record", row)
    if credit == "group":
        return [same] if record.group is None else [("group", record.group)]
    if credit == "pair":
        return [same]
    # An item carries its own content, and what its record has on the other side: it meets every item that answers
    # to equal content, and every item whose content equals one of its own answers.
    own, other = sides
    contents = [(own, record.values[own][place]), *((other, value) for value in record.values.get(other, ()))]
    return [same, *dict.fromkeys(pair for pair in contents if isinstance(pair[1], str | bytes))]


def _incidence(keys: Sequence[Sequence[Any]], names: dict[Any, int]) -> Any:
    from scipy.sparse import csr_array

    columns = np.fromiter((names.setdefault(key, len(names)) for item in keys for key in item), dtype=np.int64)
    ends = np.cumsum([0, *(len(item) for item in keys)])
    return csr_array((np.ones(len(columns), dtype=np.int32), columns, ends), shape=(len(keys), len(names)))
