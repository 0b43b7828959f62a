"""Samples that are longer than their transform's limit: counted, because their ends are dropped."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmalign import distributed
from mmalign.capabilities import Truncating
from mmalign.data.split import Split
from mmalign.modality import Transform

_LOG = logging.getLogger("mmalign")


@dataclass(frozen=True)
class Truncated:
    """Truncated samples of one tower.

    Args:
        tower: The tower.
        samples: Number of samples of which a part is dropped.
        total: Number of all samples.
        limit: The limit and the setting that raises it.
    """

    tower: str
    samples: int
    total: int
    limit: str

    def __str__(self) -> str:
        return f"{self.tower}: {self.samples} of {self.total} samples are longer than {self.limit} and are truncated"


def truncated(tower: str, transform: Transform, samples: Iterable[Any]) -> Truncated | None:
    """Count the samples that a transform truncates; None if there are none, or if it truncates nothing."""
    if not isinstance(transform, Truncating):
        return None
    count = total = 0
    for total, sample in enumerate(samples, start=1):  # noqa: B007 - the count after the loop
        count += transform.truncates(sample)
    return Truncated(tower, count, total, transform.truncation) if count else None


def warn_truncated(splits: Iterable[Split], transforms: Mapping[str, Transform]) -> dict[str, dict[str, Any]]:
    """Count the truncated samples of every tower that some splits have, and log a warning for each tower with any.

    Args:
        splits: Their samples are read.
        transforms: Tower -> its fitted transform.

    Returns:
        Tower -> the fields of `Truncated`, for provenance; {} in all processes but the first.
    """
    counts: dict[str, dict[str, Any]] = {}
    if distributed.rank() != 0:
        return counts
    parts = list(splits)
    for tower, transform in transforms.items():
        samples = (sample for split in parts if tower in split.towers for sample in split.samples(tower))
        if (found := truncated(tower, transform, samples)) is not None:
            _LOG.warning("%s", found)
            counts[tower] = {key: value for key, value in asdict(found).items() if key != "tower"}
    return counts
