"""Configuration of the data: the key `data` of a recipe and the flags `--data.*`."""

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmalign import registry
from mmalign.data.files.store import MAX_BYTES
from mmalign.data.sources.base import RESERVED, SourceConfig
from mmalign.errors import UserError

if TYPE_CHECKING:
    from mmalign.modality import Modality

MAX_STATEMENT = 2000
"""Maximum length of `licence` and `citation`."""

VIEWS = ("augmentation", "alternative")
"""How the second view of a record is made."""

_POSITIVES = ("record", "content", "group")


@dataclass(frozen=True)
class DataConfig:
    """Where paired samples come from, how they are split, and how batches are drawn from them.

    Args:
        source: Registered name of the source, such as manifest, datasets, webdataset or digits; see `mmalign list`.
        manifest: The table (CSV, TSV, JSONL, Parquet), folder of files, saved data set, or shards.
        files: Folder, tar or zip with the files named in the manifest; default: the manifest's folder.
        columns: Tower -> column, such as --data.columns.image file; also id, group, label, split (default: the
            columns of these names).
        separator: Separator between several captions (or labels) in one cell.
        options: Further arguments of the source.
        validation: Fraction held out for validation where the source has no split column; groups are never divided.
        test: Fraction held out for testing where the source has no split column.
        split_seed: Seed of the division into splits.
        positives: Positives of a record in a batch: record (itself only), content (also records with an equal sentence
            or file), group (also records of the same group).
        draw: Tower -> number of a record's alternatives (captions of an image) in each batch, such as {text: 3}; 0 =
            all. Every pair with that tower needs an objective that takes several items per record, such as one_to_k.
            Default: 1, drawn anew in each epoch.
        views: Tower that is paired with itself -> how the second view of a record is made: augmentation (another random
            augmentation of the same sample, such as a crop) or alternative (another of the record's alternatives, such
            as another sentence of one document, also augmented). Default: both views are the same item, and differ by
            dropout and masking.
        hard_negatives: A tower, such as text: records whose samples of it are similar are drawn into one batch; its
            modality must define `neighbours`. Default: batches are drawn at random.
        neighbours: File of hard negatives of each record, as `mmalign mine` writes it (columns id and negative), which
            are drawn into one batch, instead of those of `hard_negatives`.
        hard_negative_fraction: Fraction of the records whose nearest ones are drawn into the same batch, in (0, 1];
            each record is still drawn once per epoch.
        hard_negative_group_size: Maximum number of records that are placed together, at least 2.
        batch_size: Records per step and process; lowered, with a notice, where the training rows do not fill one step.
        drop_last: Leave out the last, smaller batch of an epoch.
        workers: Processes that prepare batches, and that fill the cache; 0 = the training process itself.
        cache_gb: Gigabytes of decoded samples, or of their features, to keep in memory.
        cache: Folder for samples that are slow to read (molecules), in files named by content and software versions;
            may be deleted between runs. Default: $MMALIGN_CACHE; if unset, nothing is cached on disk.
        max_rejected: Fraction of all rows of the source that may be rejected, in [0, 1]; more raise an error. Rows
            without one of the towers are left out and do not count.
        stream: Read the training records while training, in shards, without decoding all of them first. Transforms are
            fitted, and validation is measured, on the first records (`stream_head`).
        stream_epoch: Number of records of an epoch, over all processes. Default: an estimate from the first shard;
            required for shards at an address.
        stream_head: Number of first records. The shards are permuted, but not read beyond this number.
        stream_buffer: Number of records of each process among which the order is shuffled, beyond the permutation of
            the shards.
        seed: Seed of the order, the augmentation, and the choice among several captions.
        licence: Licence of the data, for the model card, such as CC-BY-4.0.
        citation: How to cite the data, for the model card.

    Raises:
        UserError: a value is out of its range.

    Example:
        >>> DataConfig("digits", validation=0.2).batch_size
        128
    """

    source: str = "manifest"
    manifest: str | None = None
    files: str | None = None
    _: KW_ONLY
    columns: dict[str, str] | None = None
    separator: str | None = None
    options: dict[str, Any] | None = None
    validation: float = 0.1
    test: float = 0.0
    split_seed: int = 0
    positives: str = "content"
    draw: dict[str, int] | None = None
    views: dict[str, str] | None = None
    hard_negatives: str | None = None
    neighbours: str | None = None
    hard_negative_fraction: float = 0.5
    hard_negative_group_size: int = 4
    batch_size: int = 128
    drop_last: bool = True
    workers: int = 0
    cache_gb: float = 2.0
    cache: str | None = None
    max_rejected: float = 0.01
    stream: bool = False
    stream_epoch: int | None = None
    stream_head: int = 1000
    stream_buffer: int = 1000
    seed: int = 0
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        for name, fraction in (("validation", self.validation), ("test", self.test)):
            _demand(0 <= fraction < 1, name, "a fraction in [0, 1)", fraction)
        held = self.validation + self.test
        _demand(held < 1, "validation + --data.test", "a sum below 1", held)
        _demand(self.positives in _POSITIVES, "positives", f"one of {', '.join(_POSITIVES)}", self.positives)
        both = self.hard_negatives is not None and self.neighbours is not None
        _demand(not both, "neighbours", "a file, or --data.hard_negatives", "both")
        for tower, number in (self.draw or {}).items():
            _demand(type(number) is int and number >= 0, f"draw.{tower}", "a number of items, 0 = all", number)
        for tower, view in (self.views or {}).items():
            _demand(view in VIEWS, f"views.{tower}", " or ".join(VIEWS), view)
        part, size = self.hard_negative_fraction, self.hard_negative_group_size
        _demand(0 < part <= 1, "hard_negative_fraction", "a fraction in (0, 1]", part)
        _demand(size >= 2, "hard_negative_group_size", "at least 2", size)
        _demand(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        _demand(self.workers >= 0, "workers", "0 or more", self.workers)
        _demand(self.cache_gb >= 0, "cache_gb", "0 or more", self.cache_gb)
        _demand(0 <= self.max_rejected <= 1, "max_rejected", "a fraction in [0, 1]", self.max_rejected)
        for name, number in (("stream_epoch", self.stream_epoch or 1), ("stream_head", self.stream_head)):
            _demand(number >= 1, name, "at least 1", number)
        _demand(self.stream_buffer >= 0, "stream_buffer", "0 or more", self.stream_buffer)
        together = self.hard_negatives or self.neighbours
        _demand(not (self.stream and together), "stream", "no hard negatives, which need all records", together)
        _demand(self.seed >= 0, "seed", "0 or more", self.seed)
        for name, text in (("licence", self.licence), ("citation", self.citation)):
            _demand(len(text) <= MAX_STATEMENT, name, f"at most {MAX_STATEMENT} characters", len(text))

    @property
    def named_columns(self) -> dict[str, str]:
        """Tower, or reserved name, -> column; the source's own where the user named no tower."""
        named = self.columns or {}
        if set(named) - set(RESERVED):
            return dict(named)
        return {**getattr(registry.load("sources", self.source), "default_columns", {}), **named}

    @property
    def towers(self) -> list[str]:
        """The towers that have a column."""
        return [name for name in self.named_columns if name not in RESERVED]

    @property
    def cache_folder(self) -> Path | None:
        """Where samples that take long to read are kept; None = nowhere."""
        folder = self.cache or os.environ.get("MMALIGN_CACHE")
        return Path(folder).expanduser() if folder else None

    def source_config(self, columns: dict[str, str], modalities: "Mapping[str, Modality]") -> SourceConfig:
        """The part that a source reads.

        Args:
            columns: Tower, or reserved name, -> column.
            modalities: Tower -> what reads its samples.
        """
        return SourceConfig(
            self.source,
            self.manifest,
            self.files,
            columns,
            self.separator,
            dict(self.options or {}),
            {tower: modality.value_is_sample for tower, modality in modalities.items()},
            {tower: modality.file_suffixes for tower, modality in modalities.items()},
            {tower: modality.separable for tower, modality in modalities.items()},
            tuple(dict.fromkeys(suffix for one in modalities.values() for suffix in one.bare_suffixes)),
            max((one.max_file_bytes for one in modalities.values() if _reads_files(one)), default=MAX_BYTES),
        )


def _reads_files(modality: "Modality") -> bool:
    return bool(modality.file_suffixes) or not modality.value_is_sample


def _demand(holds: bool, name: str, expected: str, came: object) -> None:
    if not holds:
        raise UserError(f"--data.{name}: expected {expected}, got {came}")
