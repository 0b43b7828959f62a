"""Which rows train and which are held out: by a column, or by a hash that no row order can change."""

import hashlib
from collections.abc import Mapping, Sequence

from mmalign.data.sources.base import Record

STANDARD = ("train", "validation", "test")


def normalise(name: str) -> str:
    """A split's name in our words; a name of another kind is kept.

    Example:
        >>> [normalise(name) for name in ("Train2017", "val", "dev", "TEST", "fold 3")]
        ['train', 'validation', 'validation', 'test', 'fold 3']
    """
    lower = name.strip().lower()
    if lower.startswith("train"):
        return "train"
    if lower.startswith(("val", "dev")):
        return "validation"
    return "test" if lower.startswith("test") else name.strip()


def assign(
    records: Sequence[Record], towers: Mapping[str, bool], *, validation: float, test: float, seed: int
) -> list[str]:
    """The split of every record: the source's own where it has one, else by fraction.

    Args:
        records: All rows, bad ones too: a row's split must not depend on which others are bad.
        towers: Tower -> whether its strings are samples themselves.
        validation: Share of the groups that is held out.
        test: Share of the groups that is held out once more.
        seed: Another seed, another division.
    """
    if any(record.split for record in records):
        return [normalise(record.split or "") for record in records]
    return [_by_hash(split_key(record, towers), validation, test, seed) for record in records]


def split_key(record: Record, towers: Mapping[str, bool]) -> str:
    """What must not be divided: the group, else the file (a picture listed once a caption), else the row's id."""
    if record.group is not None:
        return f"group {record.group}"
    for tower in sorted(record.values):
        value = record.values[tower][0]
        if isinstance(value, str) and not towers.get(tower, True):
            return f"file {value}"
    return f"id {record.id}"


def _by_hash(key: str, validation: float, test: float, seed: int) -> str:
    digest = hashlib.blake2b(f"{seed} {key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    fraction = int.from_bytes(digest, "big") / 2**64
    if fraction < test:
        return "test"
    return "validation" if fraction < test + validation else "train"
