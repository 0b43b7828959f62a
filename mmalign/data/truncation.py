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
_WARNED: set[str] = set()


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


class TruncationCounter:
    """Counts the samples that a transform truncates, one by one; an equal text is tokenised once.

    Args:
        tower: The tower.
        transform: Its fitted transform.
    """

    def __init__(self, tower: str, transform: Transform) -> None:
        self.tower, self._count, self._total = tower, 0, 0
        self._transform = transform if isinstance(transform, Truncating) else None
        self._known: dict[str, bool] = {}

    def add(self, sample: Any) -> Any:
        """Count one sample, as `Modality.read` returns it, and return it."""
        if self._transform is None:
            return sample
        self._total += 1
        if not isinstance(sample, str):
            self._count += self._transform.truncates(sample)
            return sample
        if sample not in self._known:
            self._known[sample] = self._transform.truncates(sample)
        self._count += self._known[sample]
        return sample

    @property
    def found(self) -> Truncated | None:
        """The truncated samples; None if there are none."""
        if self._transform is None or not self._count:
            return None
        return Truncated(self.tower, self._count, self._total, self._transform.truncation)

    def warn(self) -> None:
        """Log a warning if some samples were truncated; the same line once."""
        line = str(self.found or "")
        if line and line not in _WARNED:
            _WARNED.add(line)
            _LOG.warning("%s", line)


def truncated(tower: str, transform: Transform, samples: Iterable[Any]) -> Truncated | None:
    """Count the samples that a transform truncates; None if there are none, or if it truncates nothing."""
    if not isinstance(transform, Truncating):
        return None
    counter = TruncationCounter(tower, transform)
    for sample in samples:
        counter.add(sample)
    return counter.found


def warn_truncated(splits: Iterable[Split], transforms: Mapping[str, Transform]) -> dict[str, dict[str, Any]]:
    """Count the truncated samples of every tower that some splits have; the first process logs a warning for each.

    Args:
        splits: Their samples are read.
        transforms: Tower -> its fitted transform.

    Returns:
        Tower -> the fields of `Truncated`, for provenance.
    """
    counts: dict[str, dict[str, Any]] = {}
    parts = list(splits)
    for tower, transform in transforms.items():
        samples = (sample for split in parts if tower in split.towers for sample in split.samples(tower))
        if (found := truncated(tower, transform, samples)) is not None:
            if distributed.is_first():
                _LOG.warning("%s", found)
            counts[tower] = {key: value for key, value in asdict(found).items() if key != "tower"}
    return counts
