"""Relevance of gallery items to queries: sparse matrices."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.registry import nearest

RELEVANCE = {
    "record": "relevant = items of the query's own record",
    "content": "relevant = items of the query's own record, or of equal content to the query or to one of its items",
    "group": "relevant = items of the records in the query's group",
}


class RelevanceMatrix:
    """Relevant gallery items of a block of queries: `relevant[start:stop]` is a SciPy CSR matrix.

    An item is relevant to a query when they share a key; the relevance criterion defines the keys.

    Args:
        queries: Embedded queries.
        gallery: Embedded gallery items.
        records: Records of the split; both towers' `rows` are indices into it.
        relevance: record, content or group.
        gallery_records: Records that the gallery's `rows` are indices into, where that is not the split. A gallery
            item belongs to the record of the split that has its id.

    Raises:
        UserError: unknown relevance; `group` where no record has a group.
    """

    def __init__(
        self,
        queries: EmbeddedSplit,
        gallery: EmbeddedSplit,
        records: Sequence[Record],
        *,
        relevance: str = "record",
        gallery_records: Sequence[Record] | None = None,
    ) -> None:
        if relevance not in RELEVANCE:
            raise UserError(f"--relevance: no criterion called {relevance!r}{nearest(relevance, RELEVANCE)}")
        if relevance == "group" and all(record.group is None for record in records):
            raise UserError("--relevance group: no record has a group; name the column with --data.columns.group")
        asking, answering = queries.embedding.tower, gallery.embedding.tower
        by_id, listed = gallery_records is not None, records if gallery_records is None else gallery_records
        names: dict[Any, int] = {}
        self._queries = _incidence(
            [_keys(records, *item, (asking, answering), relevance, by_id) for item in _items(queries)], names
        )
        self._gallery = _incidence(
            [_keys(listed, *item, (answering, asking), relevance, by_id) for item in _items(gallery)], names
        )
        self._queries.resize(len(queries), len(names))
        self._gallery = self._gallery.T.tocsr()

    def __getitem__(self, rows: slice) -> Any:
        relevant = self._queries[rows] @ self._gallery
        relevant.sort_indices()
        return relevant


def _items(embedded: EmbeddedSplit) -> Iterable[tuple[int, int]]:
    """Record index and alternative index of each item."""
    return zip(embedded.record_indices.tolist(), embedded.alternative_indices.tolist(), strict=True)


def _keys(
    records: Sequence[Record], row: int, alternative: int, towers: tuple[str, str], relevance: str, by_id: bool
) -> list[Any]:
    record = records[row]
    same: tuple[str, Any] = ("id", record.id) if by_id else ("record", row)
    if relevance == "group":
        return [same] if record.group is None else [("group", record.group)]
    if relevance == "record":
        return [same]
    # Keys of an item: its own content, and the contents of its record in the other tower. It shares a key with each
    # item whose record has equal content, and with each item equal to one of its record's.
    own, other = towers
    contents = [(own, record.values[own][alternative]), *((other, value) for value in record.values.get(other, ()))]
    return [same, *dict.fromkeys(pair for pair in contents if isinstance(pair[1], str | bytes))]


def _incidence(keys: Sequence[Sequence[Any]], names: dict[Any, int]) -> Any:
    from scipy.sparse import csr_array

    columns = np.fromiter((names.setdefault(key, len(names)) for item in keys for key in item), dtype=np.int64)
    ends = np.cumsum([0, *(len(item) for item in keys)])
    return csr_array((np.ones(len(columns), dtype=np.int32), columns, ends), shape=(len(keys), len(names)))
