"""The source `datasets`: a folder saved by Hugging Face `datasets`, or local files that it reads."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmalign.data.files.folder import FolderStore
from mmalign.data.files.open import open_store
from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.manifest import max_file_bytes, named_columns, record_of
from mmalign.data.sources.rows import Row
from mmalign.data.sources.tables import plain_values
from mmalign.errors import UserError, first_line
from mmalign.registry import missing_extra, nearest

BUILDERS = {
    ".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json", ".csv": "csv",
    ".png": "imagefolder", ".jpg": "imagefolder", ".jpeg": "imagefolder", ".webp": "imagefolder",
    ".tif": "imagefolder", ".tiff": "imagefolder", ".wav": "audiofolder", ".flac": "audiofolder",
}  # fmt: skip


class DatasetsSource(Source):
    """Local data in the layout of Hugging Face `datasets`; no script is run, nothing is fetched from the network.

    `manifest` is a folder written by `save_to_disk` (the keys of a DatasetDict are the splits), or a folder or file
    of Parquet, Arrow, JSON, CSV, images or audio. Encoded images and audio are read on demand and decoded by the
    tower's modality; other columns are read once.

    Options: `builder`, one of parquet, arrow, json, csv, imagefolder, audiofolder, if the suffixes are ambiguous;
    `cache`, the folder for what `datasets` converts; `max_file_mb` (default 1024).

    Raises:
        UserError: no such folder, not readable, or a missing column.
    """

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        if not config.manifest:
            raise UserError("source 'datasets' needs a folder: --data.manifest saved_dataset")
        self.path = Path(config.manifest).expanduser()
        if not self.path.exists():
            raise UserError(f"{self.path}: expected a folder saved by datasets, got no such file")
        max_bytes = max_file_bytes(config, "builder", "cache")
        folder = self.path if self.path.is_dir() else self.path.parent
        self._folder = FolderStore(folder, max_bytes=max_bytes)
        self._files = open_store(config.files or folder, max_bytes=max_bytes)
        splits = _open(self.path, config)
        names = next(iter(splits.values())).column_names
        columns = named_columns(config, names, str(self.path))
        self._encoded: dict[tuple[str, str], Any] = {}
        self._records: list[Record] = []
        for split, dataset in splits.items():
            self._add(split, dataset, columns)

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        if not name.startswith("@"):
            return self._files.fetch(name)
        split, row, column = name[1:].split("/", 2)
        cell = self._encoded[split, column][int(row)][column]
        if isinstance(cell, bytes):
            return cell
        if cell and cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        path = Path((cell or {}).get("path") or "")
        if path.is_absolute() and path.is_relative_to(self._folder.path.resolve()):
            path = path.relative_to(self._folder.path.resolve())
        return self._folder.fetch(path.as_posix() if path.name else "")

    def fingerprint(self) -> str:
        names = [name for name in self._folder.names() if not name.startswith(".")]
        own = names if self.path.is_dir() else [self.path.name]
        return hashlib.sha256(self._folder.fingerprint(own).encode()).hexdigest()

    def _add(self, split: str, dataset: Any, columns: dict[str, str]) -> None:
        files = {column for tower, column in columns.items() if not self.config.towers.get(tower, True)}
        problems: dict[int, str] = {}
        cells = {name: self._column(split, dataset, name, name in files, problems) for name in set(columns.values())}
        for index in range(len(dataset)):
            where = f"{self.path.name}{'/' + split if split else ''}:{index}"
            row = Row(where, {column: values[index] for column, values in cells.items()}, problems.get(index, ""))
            record = record_of(row, len(self._records), columns, self.config)
            self._records.append(record if "split" in columns or not split else replace(record, split=split))

    def _column(self, split: str, dataset: Any, column: str, of_files: bool, problems: dict[int, str]) -> list[Any]:
        feature, view = dataset.features[column], dataset.select_columns([column])
        chunked = view.with_format("arrow")[:].column(column)
        for chunk in chunked.chunks:
            _demand_valid(chunk, f"{self.path}: column {column!r}")
        values = chunked.combine_chunks()
        if of_files and (hasattr(feature, "decode_example") or getattr(feature, "dtype", "") == "binary"):
            self._encoded[split, column] = view
            return [
                f"@{split}/{index}/{column}" if valid else None
                for index, valid in enumerate(values.is_valid().to_pylist())
            ]
        if hasattr(feature, "int2str"):  # class labels are stored as integers with names
            # -1 stands for a sample without a label
            known, numbers = len(feature.names), [-1 if value is None else value for value in values.to_pylist()]
            if numbers and max(numbers) >= known:
                raise UserError(
                    f"{self.path}: expected classes 0..{known - 1} in column {column!r}, got {max(numbers)}"
                )
            return [None if value < 0 else feature.int2str(value) for value in numbers]
        return plain_values(values, problems)


def _open(path: Path, config: SourceConfig) -> dict[str, Any]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise missing_extra("datasets", "data") from error
    builder = config.options.get("builder")
    _demand_regular(path)
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = _load(path, builder, config.options.get("cache"))
    except UserError:
        raise
    except Exception as error:  # builders raise anything on untrusted files
        message = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: datasets cannot read it: {type(error).__name__}: {message}") from error
    splits = dict(loaded) if isinstance(loaded, dict) else {"": loaded}
    if not any(len(dataset) for dataset in splits.values()):
        raise UserError(f"{path}: expected rows, got an empty data set")
    return {split: _undecoded(dataset) for split, dataset in splits.items()}


def _demand_valid(chunk: Any, where: str) -> None:
    """Refuse offsets that point outside of the values: the file is mapped, and Arrow would end the process on them."""
    import pyarrow as pa

    try:
        chunk.view(_as_bytes(chunk.type)).validate(full=True)
    except pa.ArrowException as error:
        raise UserError(f"{where} is damaged: {first_line(error)}") from error


def _as_bytes(kind: Any) -> Any:
    """The type with bytes in place of text: a row whose text is not UTF-8 is rejected on its own."""
    import pyarrow as pa

    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.binary() if pa.types.is_string(kind) else pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_as_bytes(kind.value_type)))
    return kind


def _demand_regular(path: Path) -> None:
    """Refuse pipes and devices among the files: reading one would not end."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise UserError(f"{file}: expected a file of a data set, got a device or pipe")


def _load(path: Path, builder: str | None, cache: str | None) -> Any:
    import datasets

    known = sorted(set(BUILDERS.values()))
    if builder is None:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        builder = next((BUILDERS[file.suffix.lower()] for file in files if file.suffix.lower() in BUILDERS), None)
        if builder is None:
            raise UserError(f"{path}: no file that datasets reads ({', '.join(BUILDERS)})")
    if builder not in known:
        raise UserError(f"--data.options.builder: no {builder!r}{nearest(builder, known)}")
    if path.is_file():
        return datasets.load_dataset(builder, data_files=str(path), cache_dir=cache)
    return datasets.load_dataset(builder, data_dir=str(path), cache_dir=cache)


def _undecoded(dataset: Any) -> Any:
    """The data set with images and audio left encoded."""
    for name, feature in dataset.features.items():
        if hasattr(feature, "decode") and hasattr(feature, "decode_example"):
            dataset = dataset.cast_column(name, type(feature)(decode=False))
    return dataset.with_format(None)
