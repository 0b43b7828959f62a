"""Whether results can be compared: the same data, queries, labels, prompts, gallery and definition of the scores."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmalign.errors import UserError
from mmalign.evaluation.comparison.metrics import QueryRows
from mmalign.evaluation.report.result import EvalResult
from mmalign.safe_io.printable import printable

PROTOCOL = ("ranks", "relevance", "gallery", "exclude_seen_groups", "average", "other", "target")
"""Settings that define queries, gallery and labels. Others, such as `score` and `rerank`, belong to the model."""

Tables = Mapping[str, QueryRows]


def require_comparable(
    names: tuple[str, str], results: tuple[EvalResult, EvalResult], rows: tuple[Tables, Tables]
) -> None:
    """Raise a `UserError` that names every difference because of which two results cannot be compared.

    Args:
        names: Names of the two models, for the message.
        results: Their results.
        rows: Their rows by direction.
    """
    found = [*_settings(*results)] or [*_rows(names, *rows)]
    if found:
        listed = "; ".join(found)
        raise UserError(f"{names[0]} and {names[1]} cannot be compared: {printable(listed)}")


def _settings(a: EvalResult, b: EvalResult) -> Iterator[str]:
    if a.task != b.task:
        yield f"the tasks differ ({a.task}, {b.task})"
        return
    first, second = a.provenance, b.provenance
    if first.get("data_hash") != second.get("data_hash"):
        yield f"the data differ (hash {_short(first.get('data_hash'))}{_source(first)}, " + (
            f"{_short(second.get('data_hash'))}{_source(second)})"
        )
    for key, what in (("split", "the splits"), ("prompts_hash", "the prompts")):
        if first.get(key) != second.get(key):
            yield f"{what} differ ({_short(first.get(key))}, {_short(second.get(key))})"
    protocols = first.get("protocol") or {}, second.get("protocol") or {}
    for key in PROTOCOL:
        mine, other = (protocol.get(key) for protocol in protocols)
        if mine != other:
            yield f"{key} differs ({_first(mine)}, {_first(other)})"
    yield from _galleries(first.get("gallery") or {}, second.get("gallery") or {})


def _galleries(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    if set(a) != set(b):
        yield f"the directions differ ({', '.join(a) or 'none'}; {', '.join(b) or 'none'})"
        return
    for direction, mine in a.items():
        other = b[direction]
        if (mine.get("set"), mine.get("size")) != (other.get("set"), other.get("size")):
            yield (
                f"the galleries of {direction} differ (the {mine.get('set')} of {mine.get('size')} items, "
                f"the {other.get('set')} of {other.get('size')})"
            )
        elif mine.get("hash") != other.get("hash"):
            yield f"the galleries of {direction} have the same size but other items"


def _rows(names: tuple[str, str], a: Tables, b: Tables) -> Iterator[str]:
    if set(a) != set(b):
        yield f"the directions differ ({', '.join(a)}; {', '.join(b)})"
        return
    for direction, mine in a.items():
        other, of = b[direction], f" of {direction}" if direction else ""
        if mine.keys != other.keys:
            only = [[key for key in one.keys if key not in known] for one, known in _with_sets(mine, other)]
            example = next(key for several in only for key in several) if any(only) else mine.keys[0]
            yield (
                f"the queries{of} differ: {len(mine.keys)} of {names[0]} and {len(other.keys)} of {names[1]}, of which "
                f"{len(only[0])} and {len(only[1])} are not in the other, such as {example[-2]!r}"
            )
            continue
        for name in _truths(mine, other):
            wrong = [i for i, (x, y) in enumerate(_pairs(mine, other, name)) if x != y]
            if wrong:
                yield f"{name}{of} differs in {len(wrong)} rows, such as {mine.keys[wrong[0]][-2]!r}"
        relevant = [i for i, (x, y) in enumerate(_pairs(mine, other, "rank")) if (x is None) != (y is None)]
        if relevant:
            yield f"the relevant items{of} differ for {len(relevant)} queries, such as {mine.keys[relevant[0]][-2]!r}"


def _with_sets(a: QueryRows, b: QueryRows) -> tuple[tuple[QueryRows, set[Any]], tuple[QueryRows, set[Any]]]:
    return (a, set(b.keys)), (b, set(a.keys))


def _truths(a: QueryRows, b: QueryRows) -> Iterator[str]:
    """Columns of labels: of retrieval none, for its `truth` is the relevant item that the model ranks first."""
    if a.task != "retrieval":
        for name in dict.fromkeys([*a.columns, *b.columns]):
            if name == "truth" or name.startswith("truth/"):
                yield name


def _pairs(a: QueryRows, b: QueryRows, name: str) -> list[tuple[Any, Any]]:
    if name not in a.columns and name not in b.columns:
        return []
    columns = [one.columns[name].tolist() if name in one.columns else [None] * len(one.keys) for one in (a, b)]
    return list(zip(*columns, strict=True))


def _short(value: Any) -> str:
    return str(value)[:12] if value is not None else "none"


def _first(value: Any) -> str:
    return "not set" if value is None else str(value).partition(":")[0].partition(";")[0]


def _source(provenance: Mapping[str, Any]) -> str:
    rows = provenance.get("rows")
    return f" of {rows['source']}" if isinstance(rows, Mapping) and "source" in rows else ""
