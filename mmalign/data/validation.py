"""What is wrong with rows before any sample is decoded."""

from collections.abc import Mapping, Sequence

from mmalign.data.sources.base import Record, Rejected


def towers_there(records: Sequence[Record], towers: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """The towers that the data has at all: a column names them, or some row has them."""
    found = set(columns).union(*(record.values for record in records))
    return [tower for tower in towers if tower in found]


def vet(records: Sequence[Record], towers: Sequence[str], columns: Mapping[str, str]) -> list[Rejected | None]:
    """The first thing that is wrong with each row, or None.

    A row must have every tower of a data set of one or two; of three or more, any two will do.
    """
    needed = len(towers) if len(towers) <= 2 else 2
    has_splits = any(record.split for record in records)
    seen: dict[str, str] = {}
    found: list[Rejected | None] = []
    for record in records:
        problem = record.problem
        first = seen.setdefault(record.id, record.location)
        absent = [tower for tower in towers if tower not in record.values]
        if problem is None and first != record.location:
            reason = (
                f"expected an id of its own, got {record.id!r} as {first} has (rows may share --data.columns.group)"
            )
            problem = Rejected(record.location, record.id, "", "", reason)
        elif problem is None and len(towers) - len(absent) < needed:
            column = f" in column {columns[absent[0]]!r}" if absent[0] in columns else ""
            more = "" if needed == len(towers) else f" (at least {needed} of {', '.join(towers)})"
            problem = Rejected(
                record.location, record.id, absent[0], "", f"expected a value{column}{more}, got an empty one"
            )
        elif problem is None and has_splits and not record.split:
            problem = Rejected(record.location, record.id, "", "", "expected the name of a split, got an empty one")
        found.append(problem)
    return found
