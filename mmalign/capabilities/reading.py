"""Reading and features: strictness, truncation, and caches of many samples at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mmalign.errors import BadSample

if TYPE_CHECKING:
    from mmalign.modality import Modality


@runtime_checkable
class StrictReading(Protocol):
    """A modality with data-quality warnings that can reject such samples (`reject_warnings` of a tower)."""

    def with_strict_reading(self) -> "Modality":
        """A copy in strict mode: samples that would raise a data-quality warning are rejected with `BadSample`."""


@runtime_checkable
class Truncating(Protocol):
    """A transform that drops the end of long samples, such as a tokenizer; check, train and evaluate count them.

    Attributes:
        truncation: The limit and the setting that raises it, for messages: "64 word pieces (max_length)".
    """

    @property
    def truncation(self) -> str: ...

    def truncates(self, sample: Any) -> bool:
        """Whether a part of this sample, as `Modality.read` returns it, is dropped."""


@runtime_checkable
class CachedReading(Protocol):
    """A modality that reads many samples at once and caches them on disk (`data.cache`).

    Used only where strings are samples (`value_is_sample`) and the user set a folder.
    """

    def read_many(
        self, sources: Sequence[Any], cache: Path, workers: int = 0
    ) -> tuple[Sequence[Any], Mapping[int, BadSample]] | None:
        """Read many values.

        Args:
            sources: As `Modality.read` takes them, `n`.
            cache: Folder; created if missing. Name its files by the content of `sources` and the software versions,
                verify them on opening, and rebuild damaged ones.
            workers: Maximum number of processes to start.

        Returns:
            `n` samples, each equal to what `read` returns, and the error of each index that cannot be read; indexing
            raises it. None = read one by one.
        """


@runtime_checkable
class CachedFeatures(Protocol):
    """A transform that computes the features of many samples at once and caches them on disk (`data.cache`)."""

    def featurise_many(self, samples: Sequence[Any], cache: Path, workers: int = 0) -> Sequence[Any] | None:
        """Compute the features of many samples.

        Args:
            samples: Output of this modality's `CachedReading.read_many`, `n`.
            cache: Folder, as for `read_many`.
            workers: Maximum number of processes to start.

        Returns:
            `n` features, each equal to the bit to what `featurise` returns. None = compute one by one.
        """


@runtime_checkable
class DiskCached(Protocol):
    """A modality of files that are slow to read: the core caches samples and their features on disk (`data.cache`).

    Samples and features consist of arrays, numbers, strings, lists, dictionaries and `cached_types`; others are not
    cached.

    Attributes:
        cached_types: Dataclasses that occur in samples and features.
        reading_libraries: Distributions whose versions can change what is read, such as pillow.
    """

    cached_types: Sequence[type]
    reading_libraries: Sequence[str]

    def files_read(self, path: Path) -> Sequence[Path]:
        """All files whose content decides what `read(path)` returns: the file, and those beside it that it reads."""
