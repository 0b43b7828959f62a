"""What a stream sets aside: rejected records and lost shards, written to a file and watched."""

import dataclasses
import json
from collections import deque
from pathlib import Path

from mmalign.data.sources.base import Rejected
from mmalign.data.sources.record_stream import LostShard
from mmalign.errors import UserError

WINDOW = 1000
"""Records among which the share of rejected ones is watched."""


class Rejections:
    """Rejected records and lost shards of one process.

    Args:
        log: File to which they are added, one JSON object a line; None = they are only counted.
        limit: Fraction of the last `WINDOW` records, and of the shards, above which reading ends.
        shards: Number of shards.
    """

    def __init__(self, log: Path | None, limit: float, shards: int) -> None:
        self.log, self.limit, self.shards = log, limit, shards
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._lost: set[str] = set()

    def accept(self) -> None:
        """Count a record that is used."""
        self._recent.append(False)

    def reject(self, problem: Rejected) -> None:
        """Count and write a record that is not.

        Raises:
            UserError: too many of the last ones are rejected.
        """
        self._write(problem)
        self._recent.append(True)
        bad = sum(self._recent)
        if bad > self.limit * WINDOW:
            raise UserError(
                f"--data.stream: {bad} of the last {len(self._recent)} records of a process cannot be used, more than "
                f"--data.max_rejected {self.limit:g} of {WINDOW}; the last: {problem}{self._listed}"
            )

    def lose(self, error: LostShard) -> None:
        """Count and write a shard that cannot be read to its end.

        Raises:
            UserError: too many shards are lost.
        """
        if error.shard in self._lost:
            return
        self._write(Rejected(error.shard, error.shard, "", "", error.reason, "missing file"))
        self._lost.add(error.shard)
        if len(self._lost) > self.limit * self.shards:
            raise UserError(
                f"--data.stream: {len(self._lost)} of {self.shards} shards cannot be read, more than "
                f"--data.max_rejected {self.limit:g}; the last: {error}{self._listed}"
            )

    def known(self) -> frozenset[str]:
        """Locations of the rejected records in the file, of this and of earlier processes."""
        if self.log is None or not self.log.is_file():
            return frozenset()
        found = set()
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.add(str(json.loads(line)["location"]))
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a process that was killed
        return frozenset(found)

    @property
    def _listed(self) -> str:
        return "" if self.log is None else f"; all are listed in {self.log}"

    def _write(self, problem: Rejected) -> None:
        if self.log is None:
            return
        line = json.dumps(dataclasses.asdict(problem)) + "\n"
        with self.log.open("a", encoding="utf-8") as file:  # one short write: lines of several processes do not mix
            file.write(line)
