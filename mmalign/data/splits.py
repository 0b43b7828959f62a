"""Assignment of records to splits: by a column, or by a hash that does not depend on their order."""

import hashlib
from collections.abc import Mapping, Sequence

from mmalign.data.sources.base import Record

STANDARD = ("train", "validation", "test")


def normalise(name: str) -> str:
    """Canonical name of a split; unknown names are unchanged.

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
    """The split of every record: the source's own if it has one, else by fraction.

    Args:
        records: All records, unusable ones included: a record's split must not depend on which others are unusable.
        towers: Tower -> whether its strings are samples themselves.
        validation: Fraction of the groups in the validation split.
        test: Fraction of the groups in the test split.
        seed: Seed of the split.
    """
    if any(record.split for record in records):
        return [normalise(record.split or "") for record in records]
    return [_by_hash(split_key(record, towers), validation, test, seed) for record in records]


def split_key(record: Record, towers: Mapping[str, bool]) -> str:
    """Key that a split must not divide: the group, else the file (an image listed per caption), else the id."""
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
