"""Decoded samples and their features: computed once, kept in memory up to a limit and, where set, on disk."""

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.data.caching.cached_files import MISSING, cached_files
from mmalign.data.caching.memory_size import nbytes
from mmalign.data.caching.read_at_once import Key, ReadAtOnce
from mmalign.data.sources.base import Record, Rejected, RejectionKind, Source
from mmalign.errors import BadSample, MissingFile
from mmalign.modality import Modality, Transform
from mmalign.safe_io.progress import track

_CHUNK = 16
_FeaturesKey = tuple[int, int, bool]  # index of the record, alternative, whether for training
_OVERHEAD = 200  # bytes that Python spends on one entry


class Samples:
    """The samples of a source, by index of the record, tower and alternative.

    Args:
        source: The source that fetches files.
        records: All its rows.
        modalities: Tower -> how it is decoded.
        cache_bytes: Maximum size of decoded data in memory.
        folder: Folder for samples and features on disk, see `CachedReading`; None = no disk cache.
        workers: Maximum number of processes to start for it.

    Attributes:
        keep_samples: Keep decoded samples in memory beside their features, which otherwise replace them.
    """

    keep_samples = False

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
        self._cache: dict[Key, Any] = {}
        self._features: dict[str, tuple[Transform, dict[_FeaturesKey, Any]]] = {}
        self._at_once = ReadAtOnce(self.modalities, folder, workers)
        self._files = cached_files(self.modalities, folder)
        self._file_keys: dict[Key, str | None] = {}
        self._lock = threading.Lock()

    def get(self, index: int, tower: str, alternative: int = 0) -> Any:
        """One decoded sample.

        Raises:
            BadSample: it cannot be decoded; named by row, tower and file.
        """
        sample = self._cache.get((index, tower, alternative))
        if sample is not None:
            return sample
        try:
            return self._decode(index, tower, alternative)
        except Exception as error:
            raise self._named(self.records[index], tower, alternative, error) from error

    def item(
        self,
        index: int,
        tower: str,
        transform: Transform,
        *,
        alternative: int = 0,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """One sample through a transform.

        Raises:
            BadSample: it cannot be decoded, or the transform refuses it; named by row, tower and file.
        """
        features = self.features(index, tower, transform, alternative, training=rng is not None)
        try:
            return transform(features, rng)
        except BadSample as error:
            raise self._named(self.records[index], tower, alternative, error) from error

    def features(
        self, index: int, tower: str, transform: Transform, alternative: int = 0, *, training: bool = False
    ) -> Any:
        """The features of one sample: from memory, from disk, or computed and then cached in memory if they fit.

        Args:
            index: Index of the record.
            tower: The tower.
            transform: Computes them.
            alternative: Index of the sample among the record's.
            training: Those that augmentation starts from, where the transform distinguishes them.

        Raises:
            BadSample: it cannot be decoded, or the transform refuses it; named by row, tower and file.
        """
        if type(transform).featurise is Transform.featurise:  # the features are the sample
            return self.get(index, tower, alternative)
        training = training and transform.has_training_features
        cached = self._features_of(tower, transform)
        if (index, alternative, training) in cached:
            return cached[index, alternative, training]
        key = (index, tower, alternative)
        try:
            features = self._at_once.features(key, transform)
            if features is not MISSING:
                return features
            files, file_key = self._files.get(tower), self._file_key(key)
            if files is not None and file_key is not None:
                features = files.features(file_key, transform, training)
            if features is MISSING:
                sample = self.get(*key)
                features = transform.featurise_for_training(sample) if training else transform.featurise(sample)
                if features is not sample and files is not None and file_key is not None:
                    files.keep_features(file_key, transform, features, training)
        except BadSample as error:
            raise self._named(self.records[index], tower, alternative, error) from error
        self._keep(cached, (index, alternative, training), features, instead_of=None if self.keep_samples else key)
        return features

    def _file_key(self, key: Key, raw: Any = None) -> str | None:
        """Key in the cache on disk of the file that a value names; None where files of its tower are not cached."""
        index, tower, alternative = key
        if tower not in self._files:
            return None
        if key not in self._file_keys:
            raw = self.raw(self.records[index], tower, alternative) if raw is None else raw
            self._file_keys[key] = self._files[tower].key(raw)
        return self._file_keys[key]

    def _features_of(self, tower: str, transform: Transform) -> dict[_FeaturesKey, Any]:
        """The features in memory computed by this transform; those of an earlier one are dropped."""
        owner, features = self._features.get(tower, (None, {}))
        if owner is not transform:
            with self._lock:
                self.used_bytes -= sum(nbytes(one) + _OVERHEAD for one in features.values())
            features = {}
            self._features[tower] = (transform, features)
        return features

    def raw(self, record: Record, tower: str, alternative: int) -> Any:
        """Input of the modality's `read`: the value itself, or the file that it names."""
        value = record.values[tower][alternative]
        if isinstance(value, str) and self.source.config.names_file(tower, value):
            return self.source.fetch(value)
        return value

    def read_many(self, indices: Sequence[int]) -> None:
        """Read the values of these records at once, if there is a folder and their modality supports it.

        Raises:
            UserError: the folder cannot be written.
        """

        def keys(tower: str) -> list[Key]:
            counts = ((index, len(self.records[index].values.get(tower, ()))) for index in indices)
            return [(index, tower, alternative) for index, count in counts for alternative in range(count)]

        self._at_once.read(keys, lambda key: self.raw(self.records[key[0]], key[1], key[2]))

    def featurise_many(self, tower: str, transform: Transform) -> None:
        """Compute the features of all samples that were read at once, if the transform supports it.

        Raises:
            UserError: the folder cannot be written.
        """
        self._at_once.featurise(tower, transform)

    def scan(
        self,
        indices: Sequence[int],
        transforms: Mapping[str, Transform] | None = None,
        training: Collection[int] = (),
    ) -> dict[int, Rejected]:
        """Decode every sample of these records, cache what fits, and return the unusable records.

        Args:
            indices: Indices of the records.
            transforms: Tower -> transform whose features are cached at once, instead of the samples.
            training: Indices of the records whose features are those for training.
        """
        self.read_many(indices)
        for tower, transform in (transforms or {}).items():
            self._features_of(tower, transform)  # one owner before threads ask for it
        chunks = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
        rejected: dict[int, Rejected] = {}
        # Decoders release the GIL: two threads already use a second core.
        with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2))) as pool:
            scanned = pool.map(partial(self._scan_chunk, transforms or {}, training), chunks)
            for problems in track(scanned, "reading", len(chunks)):
                rejected.update(problems)
        return rejected

    def _scan_chunk(
        self, transforms: Mapping[str, Transform], training: Collection[int], indices: Sequence[int]
    ) -> dict[int, Rejected]:
        problems = (self._scan_one(index, transforms, index in training) for index in indices)
        return {index: problem for index, problem in zip(indices, problems, strict=True) if problem is not None}

    def _scan_one(self, index: int, transforms: Mapping[str, Transform], training: bool) -> Rejected | None:
        record = self.records[index]
        for tower in self.modalities:
            for alternative in range(len(record.values.get(tower, ()))):
                key = (index, tower, alternative)
                try:
                    if (error := self._at_once.rejected(key)) is not None:
                        raise error
                    if key not in self._at_once and not self._is_on_disk(key):
                        self._keep(self._cache, key, self._decode(index, tower, alternative))
                        if tower in transforms and key in self._cache:
                            with suppress(Exception):  # raised again where the features are needed
                                self.features(index, tower, transforms[tower], alternative, training=training)
                except Exception as error:  # decoders raise anything on untrusted files
                    return self.rejection(record, tower, alternative, error)
        return None

    def problem(self, index: int) -> Rejected | None:
        """Decode every sample of one record and cache what fits; why it cannot be used, or None."""
        return self._scan_one(index, {}, training=False)

    def forget(self, index: int) -> None:
        """Drop the samples of one record from memory."""
        with self._lock:
            for key in [key for key in self._cache if key[0] == index]:
                self.used_bytes -= nbytes(self._cache.pop(key)) + _OVERHEAD

    def _decode(self, index: int, tower: str, alternative: int) -> Any:
        sample = self._at_once.sample((index, tower, alternative))
        if sample is not MISSING:
            return sample
        raw = self.raw(self.records[index], tower, alternative)
        files, key = self._files.get(tower), self._file_key((index, tower, alternative), raw)
        if files is None or key is None:
            return self.modalities[tower].read(raw)
        sample = files.sample(key)
        if sample is MISSING:
            sample = self.modalities[tower].read(raw)
            files.keep_sample(key, sample)
        return sample

    def _is_on_disk(self, key: Key) -> bool:
        file_key = self._file_key(key)
        return file_key is not None and self._files[key[1]].cache.has(file_key)

    def rejection(self, record: Record, tower: str, alternative: int, error: Exception) -> Rejected:
        """A failed sample as an entry of `rejected.jsonl`."""
        value = record.values[tower][alternative]
        expected, came = _words(error)
        file = value if isinstance(value, str) and self.source.config.names_file(tower, value) else ""
        kind: RejectionKind = "missing file" if isinstance(error, MissingFile) else "bad sample"
        return Rejected(record.location, record.id, tower, file, f"expected {expected}, got {came}", kind)

    def _named(self, record: Record, tower: str, alternative: int, error: Exception) -> BadSample:
        rejected = self.rejection(record, tower, alternative, error)
        where = " ".join(part for part in (rejected.location, tower, rejected.file) if part)
        return BadSample(where, *_words(error))

    def _keep(self, where: dict[Any, Any], key: Any, value: Any, *, instead_of: Key | None = None) -> None:
        """Keep a value if it fits; a sample that only led to these features makes room for them."""
        size = nbytes(value) + _OVERHEAD
        with self._lock:
            sample = None if instead_of is None else self._cache.get(instead_of)
            freed = 0 if sample is None else nbytes(sample) + _OVERHEAD
            if key not in where and self.used_bytes + size - freed <= self.cache_bytes:
                where[key] = value
                self.used_bytes += size - freed
                if instead_of is not None:
                    self._cache.pop(instead_of, None)

    def __getstate__(self) -> dict[str, Any]:
        # Spawned workers read samples themselves: sending gigabytes to each would be slower.
        at_once = ReadAtOnce(self.modalities, self.folder, self.workers)
        return {**self.__dict__, "_lock": None, "used_bytes": 0, "_at_once": at_once, "_cache": {}, "_features": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _words(error: Exception) -> tuple[str, str]:
    if isinstance(error, BadSample):
        return error.expected, error.came
    message = " ".join(str(error).split())[:300]
    return "a readable sample", f"{type(error).__name__}: {message}"
