"""What every source of simulated samples shares: its options, the split of each record, and its fingerprint."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from mmalign.data.sources.base import Record
from mmalign.errors import UserError
from mmalign.registry import nearest

SPLITS = ("train", "validation", "test")
"""Options with the number of records of each split."""

MOST = 1_000_000
"""Largest value of an option whose range is not given."""

Number = TypeVar("Number", int, float)


def checked_options(
    source: str, settings: Mapping[str, Any], defaults: Mapping[str, Number], most: Mapping[str, float] | None = None
) -> dict[str, Number]:
    """The options of a source: those that the user gives, and the defaults of the others.

    Args:
        source: Name of the source, for messages.
        settings: Options of the user.
        defaults: Option -> default; the numbers of records are `train`, `validation` and `test`. An option whose
            default is an integer takes integers only.
        most: Option -> largest value; default: `MOST`. The smallest value is 0.

    Raises:
        UserError: an option is unknown or out of its range, or all splits are empty.

    Example:
        >>> checked_options("hearts", {"test": 5}, {"train": 10, "validation": 0, "test": 2, "seed": 0})
        {'train': 10, 'validation': 0, 'test': 5, 'seed': 0}
    """
    for name, value in settings.items():
        if name not in defaults:
            raise UserError(f"source {source!r} has no option {name!r}{nearest(name, defaults)}")
        whole, limit = isinstance(defaults[name], int), (most or {}).get(name, MOST)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 <= value <= limit:
            wanted = f"a {'whole ' if whole else ''}number in 0..{limit:g}"
            raise UserError(f"--data.options.{name}: expected {wanted}, got {value!r}")
    options = {**defaults, **settings}
    if not any(options[split] for split in SPLITS):
        raise UserError(f"source {source!r}: expected at least one record in train, validation or test, got none")
    return options


def split_names(options: Mapping[str, float]) -> list[str]:
    """The split of each record: first all of `train`, then `validation`, then `test`.

    Example:
        >>> split_names({"train": 2, "validation": 0, "test": 1})
        ['train', 'train', 'test']
    """
    return [split for split in SPLITS for _ in range(int(options[split]))]


def fingerprint(source: str, version: int, options: Mapping[str, float], records: Iterable[Record]) -> str:
    """A hash of the options and of the content of all records.

    Args:
        source: Name of the source.
        version: Version of the simulator; raised whenever the same sample would be generated differently.
        options: Options of the source.
        records: All records.
    """
    digest = hashlib.sha256(f"{source} {version} {sorted(options.items())}".encode())
    for record in records:
        digest.update(f"{record.id} {sorted(record.values.items())} {record.labels} {record.split}".encode())
    return digest.hexdigest()
