"""What a cell of a table holds: samples, labels, a single name, numbers; and when it holds nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmalign.data.sources.base import Record, Rejected

UNKNOWN_NUMBERS = ("nan", "na", "n/a", "null", "none")
"""Words that programs write for a missing number, in lower case."""


def alternatives(cell: Any, separator: str | None = None) -> tuple[Any, ...]:
    """The samples in a cell: none, one, or several (a list of strings, or pieces between separators).

    Example:
        >>> alternatives("a dog | an animal", " | ")
        ('a dog', 'an animal')
        >>> alternatives([0.5, 1.0])[0].shape
        (2,)
        >>> alternatives(float("nan"))
        ()
    """
    if is_missing(cell):
        return ()
    if isinstance(cell, str) and separator and separator in cell:
        return tuple(piece.strip() for piece in cell.split(separator) if piece.strip())
    if isinstance(cell, dict) and set(cell) <= {"bytes", "path"}:  # how the Hugging Face hub stores images and audio
        return tuple(value for value in (cell.get("bytes"), cell.get("path")) if value)[:1]
    if isinstance(cell, list | tuple):
        if any(isinstance(item, str | bytes | dict | np.ndarray) for item in cell):
            return tuple(value for item in cell for value in (alternatives(item) or ("",)))
        return (_array(cell),) if cell else ()
    return (cell,)


def labels_of(cell: Any, separator: str | None = None) -> tuple[str, ...]:
    """The classes in a cell: none, one, or several (a list, or pieces between separators).

    Example:
        >>> labels_of("dog;cat", ";"), labels_of([3, 4.0]), labels_of(float("nan"))
        (('dog', 'cat'), ('3', '4'), ())
    """
    if isinstance(cell, str) and separator:
        cell = cell.split(separator)
    if isinstance(cell, list | tuple | np.ndarray):
        return tuple(label for item in cell if (label := name_of(item)) is not None)
    label = name_of(cell)
    return () if label is None else (label,)


def name_of(cell: Any) -> str | None:
    """The single name in a cell, such as an id, a group or a class; None where there is none.

    A whole number that a column of floats holds is written without its decimal point: a null turns a column of integers
    into floats.

    Example:
        >>> name_of(3.0), name_of(2.5), name_of(float("nan")), name_of(" ")
        ('3', '2.5', None, None)
    """
    if is_missing(cell) or isinstance(cell, list | dict):
        return None
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip() or None


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or a string of blanks."""
    if isinstance(cell, float | np.floating):
        return math.isnan(cell)
    return cell is None or is_blank(cell)


def is_blank(value: Any) -> bool:
    """Whether a value is a string of blanks."""
    return isinstance(value, str | bytes) and not value.strip()


def with_targets(record: Record, cells: Mapping[str, Any]) -> Record:
    """The record with the numbers in these cells as targets; a cell that holds no number becomes the row's problem.

    Example:
        >>> with_targets(Record("1", "names.csv:2", {}), {"age": "61", "weight": "", "size": float("nan")}).targets
        {'age': 61.0}
    """
    targets, problem = {}, record.problem
    for name, cell in cells.items():
        if is_missing(cell) or (isinstance(cell, str) and cell.strip().lower() in UNKNOWN_NUMBERS):
            continue
        try:
            targets[name] = math.nan if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError, OverflowError):
            targets[name] = math.nan
        if not math.isfinite(targets[name]):
            reason = f"expected a finite number in column {name!r}, got {str(cell)[:40]!r}"
            problem = problem or Rejected(record.location, record.id, "", "", reason)
            del targets[name]
    return replace(record, targets=targets, problem=problem)


def _array(cell: Sequence[Any]) -> Any:
    try:
        with np.errstate(all="ignore"):  # the modality rejects infinities
            return np.asarray(cell, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        return list(cell)  # not numbers, or ragged: the modality rejects it
