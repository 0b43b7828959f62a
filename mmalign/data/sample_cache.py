"""Cache of decoded samples and their features: computed once, kept in memory up to a limit."""

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from mmalign.capabilities import CachedFeatures, CachedReading
from mmalign.data.sources.base import Record, Rejected, Source
from mmalign.errors import BadSample, UserError
from mmalign.modality import Modality, Transform

_CHUNK = 16
_Key = tuple[int, str, int]  # place of the record, side, alternative
_OVERHEAD = 200  # bytes that Python spends on one entry


@dataclass
class _OnDisk:
    """Samples cached on disk by a modality, and their features under the last transform that computed them."""

    side: str
    samples: Sequence[Any]
    rejected: Mapping[int, BadSample]
    transform: Transform | None = None
    features: Sequence[Any] | None = None


class Samples:
    """The samples of a source, by place of the record, side and alternative.

    Args:
        source: The source that fetches files.
        records: All its rows.
        modalities: Side -> how it is decoded.
        cache_bytes: Maximum size of decoded data in memory.
        folder: Folder for samples and features on disk, see `CachedReading`; None = no disk cache.
        workers: Maximum number of processes to start for it.
    """

    def __init__(
        self,
        source: Source,
        records: Sequence[Record],
        modalities: Mapping[str, Modality],
        *,
        cache_bytes: float,
        folder: Path | None = None,
        workers: int = 0,
    ) -> None:
        self.source, self.records, self.modalities = source, records, dict(modalities)
        self.cache_bytes, self.used_bytes, self.folder, self.workers = cache_bytes, 0, folder, workers
        self._cache: dict[_Key, Any] = {}
        self._features: dict[str, tuple[Transform, dict[tuple[int, int], Any]]] = {}
        self._on_disk: list[_OnDisk] = []
        self._rows: dict[_Key, tuple[_OnDisk, int]] = {}
        self._lock = threading.Lock()

    def get(self, place: int, side: str, alternative: int = 0) -> Any:
        """One decoded sample.

        Raises:
            BadSample: it cannot be decoded; named by row, side and file.
        """
        sample = self._cache.get((place, side, alternative))
        if sample is not None:
            return sample
        record = self.records[place]
        try:
            return self._decode(place, side, alternative)
        except Exception as error:
            raise self._named(record, side, alternative, error) from error

    def item(
        self,
        place: int,
        side: str,
        transform: Transform,
        *,
        alternative: int = 0,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """One sample through a transform.

        Raises:
            BadSample: it cannot be decoded, or the transform refuses it; named by row, side and file.
        """
        features = self.features(place, side, transform, alternative)
        try:
            return transform(features, rng)
        except BadSample as error:
            raise self._named(self.records[place], side, alternative, error) from error

    def features(self, place: int, side: str, transform: Transform, alternative: int = 0) -> Any:
        """The features of one sample: from memory, from disk, or computed and then cached in memory if they fit.

        Raises:
            BadSample: it cannot be decoded, or the transform refuses it; named by row, side and file.
        """
        cached = self._features_of(side, transform)
        if (place, alternative) in cached:
            return cached[place, alternative]
        many, row = self._rows.get((place, side, alternative), (None, 0))
        on_disk = many.features if many is not None and many.transform is transform else None
        sample = self.get(place, side, alternative) if on_disk is None else None
        try:
            if on_disk is not None:
                return on_disk[row]
            features = transform.featurise(sample)
        except BadSample as error:
            raise self._named(self.records[place], side, alternative, error) from error
        if features is not sample:
            self._keep(cached, (place, alternative), features)
        return features

    def _features_of(self, side: str, transform: Transform) -> dict[tuple[int, int], Any]:
        """The features in memory computed by this transform; those of an earlier one are dropped."""
        owner, features = self._features.get(side, (None, {}))
        if owner is not transform:
            with self._lock:
                self.used_bytes -= sum(nbytes(one) + _OVERHEAD for one in features.values())
            features = {}
            self._features[side] = (transform, features)
        return features

    def raw(self, record: Record, side: str, alternative: int) -> Any:
        """Input of the modality's `read`: the value itself, or the file that it names."""
        value = record.values[side][alternative]
        if isinstance(value, str) and not self.modalities[side].value_is_sample:
            return self.source.fetch(value)
        return value

    def read_many(self, places: Sequence[int]) -> None:
        """Read the values of these records at once, if there is a folder and their modality supports it.

        Raises:
            UserError: the folder cannot be written.
        """
        for side, modality in self.modalities.items():
            if self.folder is None or not modality.value_is_sample or not isinstance(modality, CachedReading):
                continue
            wanted = [
                (place, side, alternative)
                for place in places
                for alternative in range(len(self.records[place].values.get(side, ())))
            ]
            try:
                values = [self.raw(self.records[place], side, alternative) for place, _, alternative in wanted]
                made = modality.read_many(values, self.folder, self.workers) if wanted else None
            except OSError as error:
                raise _unwritable(self.folder, error) from error
            if made is not None:
                many = _OnDisk(side, *made)
                self._on_disk.append(many)
                self._rows |= {key: (many, row) for row, key in enumerate(wanted)}

    def featurise_many(self, side: str, transform: Transform) -> None:
        """Compute the features of all samples that were read at once, if the transform supports it.

        Raises:
            UserError: the folder cannot be written.
        """
        if self.folder is None or not isinstance(transform, CachedFeatures):
            return
        for many in self._on_disk:
            if many.side == side and many.transform is not transform:
                try:
                    many.features = transform.featurise_many(many.samples, self.folder, self.workers)
                    many.transform = transform
                except OSError as error:
                    raise _unwritable(self.folder, error) from error

    def scan(self, places: Sequence[int]) -> dict[int, Rejected]:
        """Decode every sample of these records, cache what fits, and return the unusable records."""
        self.read_many(places)
        chunks = [places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK)]
        rejected: dict[int, Rejected] = {}
        tty, console = sys.stderr.isatty() and len(places) > 1000, Console(stderr=True)
        # Decoders release the GIL: two threads already use a second core.
        with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2))) as pool:
            scanned = pool.map(self._scan_chunk, chunks)
            for found in track(scanned, "reading", len(chunks), console=console, transient=True, disable=not tty):
                rejected.update(found)
        return rejected

    def _scan_chunk(self, places: Sequence[int]) -> dict[int, Rejected]:
        found = (self._scan_one(place) for place in places)
        return {place: problem for place, problem in zip(places, found, strict=True) if problem is not None}

    def _scan_one(self, place: int) -> Rejected | None:
        record = self.records[place]
        for side in self.modalities:
            for alternative in range(len(record.values.get(side, ()))):
                many, row = self._rows.get((place, side, alternative), (None, 0))
                try:
                    if many is None:
                        self._keep(self._cache, (place, side, alternative), self._decode(place, side, alternative))
                    elif row in many.rejected:
                        raise many.rejected[row]
                except Exception as error:  # decoders raise anything on untrusted files
                    return self.rejection(record, side, alternative, error)
        return None

    def _decode(self, place: int, side: str, alternative: int) -> Any:
        many, row = self._rows.get((place, side, alternative), (None, 0))
        if many is not None:
            return many.samples[row]
        return self.modalities[side].read(self.raw(self.records[place], side, alternative))

    def rejection(self, record: Record, side: str, alternative: int, error: Exception) -> Rejected:
        """A failed sample as an entry of `rejected.jsonl`."""
        value = record.values[side][alternative]
        expected, came = _words(error)
        file = value if isinstance(value, str) and not self.modalities[side].value_is_sample else ""
        return Rejected(record.location, record.id, side, file, f"expected {expected}, got {came}")

    def _named(self, record: Record, side: str, alternative: int, error: Exception) -> BadSample:
        rejected = self.rejection(record, side, alternative, error)
        where = " ".join(part for part in (rejected.location, side, rejected.file) if part)
        return BadSample(where, *_words(error))

    def _keep(self, where: dict[Any, Any], key: Any, value: Any) -> None:
        size = nbytes(value) + _OVERHEAD
        with self._lock:
            if key not in where and self.used_bytes + size <= self.cache_bytes:
                where[key] = value
                self.used_bytes += size

    def __getstate__(self) -> dict[str, Any]:
        # Spawned workers read samples themselves: sending gigabytes to each would be slower.
        state = {**self.__dict__, "_lock": None, "used_bytes": 0, "_on_disk": []}
        return state | {name: {} for name in ("_cache", "_features", "_rows")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def nbytes(sample: Any) -> int:
    """Approximate memory of a sample in bytes.

    Example:
        >>> import numpy as np
        >>> nbytes((np.zeros((2, 3), dtype=np.uint8), b"ab"))
        8
    """
    if hasattr(sample, "nbytes"):
        return int(sample.nbytes)
    if isinstance(sample, bytes | str):
        return len(sample)
    if isinstance(sample, Mapping):
        return sum(nbytes(value) for value in sample.values())
    if isinstance(sample, list | tuple):
        return sum(nbytes(value) for value in sample)
    return sys.getsizeof(sample) + sum(nbytes(value) for value in getattr(sample, "__dict__", {}).values())


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"--data.cache: expected a folder that can be written, got {folder} ({error})")


def _words(error: Exception) -> tuple[str, str]:
    if isinstance(error, BadSample):
        return error.expected, error.came
    message = " ".join(str(error).split())[:300]
    return "a readable sample", f"{type(error).__name__}: {message}"
