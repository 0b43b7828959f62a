"""Samples that a modality reads many at once and caches on disk, and their features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmalign.capabilities import CachedFeatures, CachedReading
from mmalign.data.caching.cached_files import MISSING
from mmalign.errors import BadSample, UserError
from mmalign.modality import Modality, Transform

Key = tuple[int, str, int]
"""Index of the record, tower, alternative."""


@dataclass
class _OnDisk:
    """Samples of one call of `read_many`, and their features under the last transform that computed them."""

    tower: str
    samples: Sequence[Any]
    rejected: Mapping[int, BadSample]
    transform: Transform | None = None
    features: Sequence[Any] | None = None


class ReadAtOnce:
    """The samples of the modalities with the capability `CachedReading`, where the user set a folder.

    Args:
        modalities: Tower -> how it is decoded.
        folder: Folder for samples and features; None = nothing is read at once.
        workers: Maximum number of processes to start.
    """

    def __init__(self, modalities: Mapping[str, Modality], folder: Path | None, workers: int) -> None:
        self.modalities, self.folder, self.workers = modalities, folder, workers
        self._calls: list[_OnDisk] = []
        self._rows: dict[Key, tuple[_OnDisk, int]] = {}

    def __contains__(self, key: object) -> bool:
        """Whether the sample was read at once."""
        return key in self._rows

    def read(self, keys: Callable[[str], Sequence[Key]], raw: Callable[[Key], Any]) -> None:
        """Read the samples of each tower that can be read at once.

        Args:
            keys: The keys of a tower's samples.
            raw: What `Modality.read` would take for a key.

        Raises:
            UserError: the folder cannot be written.
        """
        for tower, modality in self.modalities.items():
            if self.folder is None or not modality.value_is_sample or not isinstance(modality, CachedReading):
                continue
            wanted = keys(tower)
            try:
                values = [raw(key) for key in wanted]
                many = modality.read_many(values, self.folder, self.workers) if wanted else None
            except OSError as error:
                raise _unwritable(self.folder, error) from error
            if many is not None:
                call = _OnDisk(tower, *many)
                self._calls.append(call)
                self._rows |= {key: (call, row) for row, key in enumerate(wanted)}

    def featurise(self, tower: str, transform: Transform) -> None:
        """Compute the features of all samples of a tower, if the transform has the capability `CachedFeatures`.

        Raises:
            UserError: the folder cannot be written.
        """
        if self.folder is None or not isinstance(transform, CachedFeatures):
            return
        for call in self._calls:
            if call.tower == tower and call.transform is not transform:
                try:
                    call.features = transform.featurise_many(call.samples, self.folder, self.workers)
                    call.transform = transform
                except OSError as error:
                    raise _unwritable(self.folder, error) from error

    def sample(self, key: Key) -> Any:
        """The sample of a key, or `MISSING` if it was not read at once.

        Raises:
            BadSample: it cannot be decoded.
        """
        call, row = self._rows.get(key, (None, 0))
        return MISSING if call is None else call.samples[row]

    def rejected(self, key: Key) -> BadSample | None:
        """Why a sample that was read at once cannot be used."""
        call, row = self._rows.get(key, (None, 0))
        return None if call is None else call.rejected.get(row)

    def features(self, key: Key, transform: Transform) -> Any:
        """The features of a key by this transform, or `MISSING` if they were not computed at once."""
        call, row = self._rows.get(key, (None, 0))
        return (
            MISSING if call is None or call.features is None or call.transform is not transform else call.features[row]
        )


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"--data.cache: expected a folder that can be written, got {folder} ({error})")
