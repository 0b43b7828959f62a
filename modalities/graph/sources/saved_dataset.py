"""The source `pyg`: the folder of an `InMemoryDataset` of PyTorch Geometric."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from mmalign.data.files.store import MAX_BYTES, file_sha256
from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.manifest import max_file_bytes, named_columns, record_of
from mmalign.data.sources.rows import Row
from mmalign.errors import BadSample, UserError
from modalities.graph.sample import NAMES, archive_of
from modalities.graph.sources.collated import Collated, read_collated

SPLIT_OF = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
"""Name of a file -> split."""

GRAPH = "graph"
"""Column of the graph itself."""


class PygSource(Source):
    """Graphs saved by `InMemoryDataset.save` of PyTorch Geometric; only tensors and strings are read, no pickled code.

    `manifest` is the data set's root, its folder `processed`, or a `.pt` file. Files `train.pt`, `val.pt` and `test.pt`
    are the splits. Columns are `graph` (for towers of modality graph) and the other attributes of a graph: strings such
    as `smiles`, numbers such as `y`, and arrays.

    Options: `max_file_mb`, the maximum size of a file (default 1024).

    Raises:
        UserError: no such folder, a file of another kind or of an older format, or a missing column.
    """

    default_columns: ClassVar[dict[str, str]] = {"graph": GRAPH}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        if not config.manifest:
            raise UserError("source 'pyg' needs a folder: --data.manifest DATASET, with DATASET/processed/data.pt")
        self.files = _files(Path(config.manifest).expanduser())
        most = min(max_file_bytes(config), MAX_BYTES)
        self._saved = {path.stem: read_collated(path, most) for path in self.files}
        first = next(iter(self._saved.values()))
        names = [GRAPH, *(name for name in first.names if name not in NAMES)]
        splits = len(self.files) > 1
        columns = named_columns(config, [*names, *(["split"] if splits else [])], config.manifest, self.default_columns)
        self._records: list[Record] = []
        for stem, saved in self._saved.items():
            for row in self._rows(stem, saved, set(columns.values())):
                self._records.append(record_of(row, len(self._records), columns, config))

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        stem, _, index = name.rpartition("#")
        saved = self._saved.get(stem)
        if saved is None or not index.isdecimal() or int(index) >= len(saved):
            raise BadSample(name, "a graph of the data set", "another name")
        values = saved.row(int(index))
        return archive_of({key: value for key in NAMES if (value := values.get(key)) is not None})

    def fingerprint(self) -> str:
        return hashlib.sha256(" ".join(file_sha256(path) for path in self.files).encode()).hexdigest()

    def _rows(self, stem: str, saved: Collated, wanted: set[str]) -> Iterator[Row]:
        for index in range(len(saved)):
            cells = saved.row(index, wanted - {GRAPH, "split"})
            yield Row(f"{stem}.pt:{index}", cells | {GRAPH: f"{stem}#{index}", "split": SPLIT_OF.get(stem, stem)})


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    folder = path / "processed" if (path / "processed").is_dir() else path
    files = sorted(one for one in folder.glob("*.pt") if one.is_file() and not one.name.startswith("pre_"))
    splits = [one for one in files if one.stem in SPLIT_OF]
    if not files or (len(files) > 1 and len(splits) < len(files)):
        came = ", ".join(one.name for one in files[:5]) or "none"
        raise UserError(f"{folder}: expected data.pt, or train.pt, val.pt and test.pt, got {came}; name one file")
    return files
