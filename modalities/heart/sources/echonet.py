"""The source `echonet-dynamic`: EchoNet-Dynamic, 10,030 apical four-chamber clips (Ouyang et al. 2020)."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mmalign.data.files.open import open_store
from mmalign.data.sources.base import Record, Rejected, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from modalities.common.sources.published_dataset import (
    check_options,
    fingerprint_of,
    folder_of,
    number_of,
    rows,
    table,
    tower_values,
    towers_of,
)
from modalities.heart.simulator.ejection_fraction import class_of, sentence_of

LIST = "FileList.csv"
COLUMNS = ("echo", "text", "label", "id", "group", "split")
VOLUMES = {"ESV": "end_systolic_volume", "EDV": "end_diastolic_volume"}


class EchonetSource(Source):
    """The unpacked EchoNet-Dynamic: `--data.manifest FOLDER`, with `FileList.csv` and `Videos/NAME.avi`.

    Of `FileList.csv` the columns `FileName` (with or without `.avi`), `EF`, `Split` and, where they are there, `ESV`
    and `EDV` are read, as the release documents them; not checked against the release. Each clip is from a different
    patient.

    Columns: `echo` (a file), `text` (a sentence of the ejection fraction: the data set has no reports), `label` (its
    class), `id` and `group` (the name), `split`. Targets: `ejection_fraction` in percent, `end_systolic_volume` and
    `end_diastolic_volume` in millilitres.

    Raises:
        UserError: the folder lacks the table, the table lacks a column, or an option is given.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"echo": "echo", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        check_options(config, ())
        self._columns = named_columns(config, COLUMNS, "EchoNet-Dynamic", self.default_columns)
        self.folder = folder_of(config.manifest or config.files, "echonet-dynamic", "--data.manifest", (LIST,))
        self._store = open_store(self.folder)

    @cached_property
    def _records(self) -> list[Record]:
        path = table(self.folder, LIST)
        assert path is not None  # checked by `folder_of`
        return [self._record(row, cells) for row, cells in rows(path, ("FileName", "EF", "Split"), tuple(VOLUMES))]

    def _record(self, row: str, cells: Mapping[str, str]) -> Record:
        name = cells["FileName"].removesuffix(".avi")
        fraction = number_of(cells["EF"], 0, 100)
        problem = None
        if not name:
            problem = Rejected(row, "", "echo", "", "expected a FileName, got none")
        elif fraction is None:
            problem = Rejected(row, name, "", "", f"expected EF as a number in 0..100, got {cells['EF'][:40]!r}")
        labels = () if fraction is None else (f"{class_of(fraction)} ejection fraction",)
        targets = {} if fraction is None else {"ejection_fraction": fraction}
        for column, target in VOLUMES.items():
            if (volume := number_of(cells.get(column, ""), 0, 10_000)) is not None:
                targets[target] = volume
        columns: dict[str, tuple[Any, ...]] = {
            "echo": (f"Videos/{name}.avi",) if name else (),
            "text": () if fraction is None else (sentence_of(fraction),),
            "label": labels,
            **dict.fromkeys(("id", "group"), (name,)),
        }
        values = tower_values(columns, self._columns)
        return Record(name, row, values, name or None, labels, cells["Split"], problem, targets)

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        return self._store.fetch(name)

    def fingerprint(self) -> str:
        files = towers_of("echo", self._columns)
        return fingerprint_of(self._records, {"": self._store}, files)
