"""Samples and features of files on disk, by the content of the files."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmalign.capabilities import DiskCached
from mmalign.data.caching.disk_cache import DiskCache
from mmalign.data.files.store import file_sha256
from mmalign.data.plain_values import from_bytes, to_bytes
from mmalign.modality import Modality, Transform
from mmalign.version import CACHE_FORMAT, __version__

MISSING = object()
"""Nothing is cached: None can be a value."""


class CachedFiles:
    """What one modality reads from files, and the features of it.

    A key is the content of the files, the modality and its settings, and the versions of mmalign and of the libraries
    that decode: a change of any of them is another key.

    Args:
        modality: Decodes the files.
        cache: The cache that holds the values.
    """

    def __init__(self, modality: DiskCached, cache: DiskCache) -> None:
        self.modality, self.cache = modality, cache
        self._transform: tuple[Transform | None, str] = (None, "")

    def key(self, raw: Any) -> str | None:
        """The key of a value as `Modality.read` takes it; None unless it is a file or its bytes.

        Args:
            raw: A path, bytes, or anything else.
        """
        digest = hashlib.sha256(self._settings)
        if isinstance(raw, bytes):
            digest.update(raw)
        elif isinstance(raw, Path):
            try:
                for file in self.modality.files_read(raw):
                    # The name counts where it says how to read: a suffix, or a part of the file.
                    how = f"{file_sha256(file)}\0{file.suffix}\0{raw.name.partition('#')[2]}"
                    digest.update(how.encode("utf-8", "replace"))
            except OSError:
                return None
        else:
            return None
        return digest.hexdigest()

    def sample(self, key: str) -> Any:
        """The sample of a key, or `MISSING`."""
        return self._get(key)

    def keep_sample(self, key: str, sample: Any) -> None:
        """Cache a sample."""
        self._put(key, sample)

    def features(self, key: str, transform: Transform, training: bool = False) -> Any:
        """The features of the sample of a key, or `MISSING`."""
        return self._get(self._features_key(key, transform, training))

    def keep_features(self, key: str, transform: Transform, features: Any, training: bool = False) -> None:
        """Cache features."""
        self._put(self._features_key(key, transform, training), features)

    @cached_property
    def _settings(self) -> bytes:
        versions = {name: _version(name) for name in self.modality.reading_libraries}
        settings = {name: repr(value) for name, value in sorted(vars(self.modality).items())}
        return json.dumps([type(self.modality).__qualname__, __version__, CACHE_FORMAT, versions, settings]).encode()

    def _features_key(self, key: str, transform: Transform, training: bool) -> str:
        if self._transform[0] is not transform:  # its settings can be long, such as a vocabulary
            settings = json.dumps([type(transform).__qualname__, transform.config()], sort_keys=True)
            self._transform = (transform, hashlib.sha256(settings.encode()).hexdigest())
        which = " training" if training else ""
        return hashlib.sha256(f"{key} {self._transform[1]}{which}".encode()).hexdigest()

    def _get(self, key: str) -> Any:
        data = self.cache.get(key)
        if data is None:
            return MISSING
        try:
            return from_bytes(data, self.modality.cached_types)
        except ValueError:  # damaged: computed anew
            self.cache.remove(key)
            return MISSING

    def _put(self, key: str, value: Any) -> None:
        data = to_bytes(value, self.modality.cached_types)
        if data is not None:
            self.cache.put(key, data)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def cached_files(modalities: Mapping[str, Modality], folder: Path | None) -> dict[str, CachedFiles]:
    """The towers whose files are cached on disk: those whose modality supports it, if there is a folder.

    Args:
        modalities: Tower -> modality.
        folder: Folder of the cache; None = no cache on disk.

    Raises:
        UserError: the folder cannot be written.
    """
    able = {tower: modality for tower, modality in modalities.items() if isinstance(modality, DiskCached)}
    if folder is None or not able:
        return {}
    cache = DiskCache(folder)
    return {tower: CachedFiles(modality, cache) for tower, modality in able.items()}
