"""Checks of the records before any sample is decoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmalign.data.sources.base import Record, Rejected


@dataclass(frozen=True)
class Vetted:
    """Unusable records by index, each with its reason.

    Args:
        rejected: Faulty records; these count towards `max_rejected`.
        incomplete: Records that lack a requested tower; these are left out.
    """

    rejected: dict[int, Rejected] = field(default_factory=dict)
    incomplete: dict[int, Rejected] = field(default_factory=dict)


def with_names(record: Record) -> Record:
    """The record without names that are blank: a group, a split or a label of blanks is none, and an id is demanded.

    A table writes an unknown group or label as an empty cell; records of unknown groups are not of one group.

    Example:
        >>> with_names(Record("1", "t.csv:2", {}, " ", ("dog", ""), "")).labels
        ('dog',)
    """
    problem = record.problem
    if problem is None and not record.id.strip():
        problem = Rejected(record.location, record.id, "", "", "expected an id, got none")
    group, split = (name if name and name.strip() else None for name in (record.group, record.split))
    labels = tuple(label for label in record.labels if label.strip())
    if (group, split, labels, problem) == (record.group, record.split, record.labels, record.problem):
        return record
    return replace(record, group=group, split=split, labels=labels, problem=problem)


def present_towers(records: Sequence[Record], towers: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """The towers of the data: those named by a column, and those of which a record has a value."""
    named = set(columns).union(*(record.values for record in records))
    return [tower for tower in towers if tower in named]


def vet(records: Sequence[Record], towers: Sequence[str], columns: Mapping[str, str]) -> Vetted:
    """Find the first fault of each record.

    A record must have all towers if one or two are requested, and any two if three or more are.

    Args:
        records: All records of the source.
        towers: The requested towers that the data has.
        columns: Tower -> column, for the messages.
    """
    needed = min(2, len(towers))
    has_splits = any(record.split for record in records)
    seen: dict[str, int] = {}
    vetted = Vetted()
    for index, record in enumerate(records):
        first = seen.setdefault(record.id, index)
        absent = [tower for tower in towers if tower not in record.values]
        if record.problem is not None:
            vetted.rejected[index] = record.problem
        elif first != index:
            other = records[first].location
            shown = "an earlier record of this place" if other == record.location else other
            reason = (
                f"expected an id of its own, got {record.id!r} as {shown} has (rows may share --data.columns.group)"
            )
            vetted.rejected[index] = Rejected(record.location, record.id, "", "", reason)
        elif len(towers) - len(absent) < needed:
            column = f" in column {columns[absent[0]]!r}" if absent[0] in columns else ""
            more = "" if needed == len(towers) else f" (at least {needed} of {', '.join(towers)})"
            reason = f"expected a value{column}{more}, got an empty one"
            vetted.incomplete[index] = Rejected(record.location, record.id, absent[0], "", reason, "missing value")
        elif has_splits and not record.split:
            reason = "expected the name of a split, got an empty one"
            vetted.rejected[index] = Rejected(record.location, record.id, "", "", reason)
    return vetted
