"""The source `mimic-ecg`: MIMIC-IV-ECG, 800,000 ECGs with the machine's report (Gow et al. 2023, PhysioNet)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from mmalign.data.files.open import open_store
from mmalign.data.sources.base import Record, Rejected, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from modalities.common.sources.published_dataset import (
    check_options,
    fingerprint_of,
    folder_of,
    rows,
    table,
    tower_values,
    towers_of,
)

TABLES = ("record_list.csv", "machine_measurements.csv")
COLUMNS = ("ecg", "text", "id", "group")
REPORT = tuple(f"report_{number}" for number in range(18))


class Study(NamedTuple):
    """One row of `record_list.csv`.

    Args:
        row: Location of the row.
        subject: The patient.
        id: The study.
        time: Time of recording, None if the cell is no time.
        file: Its signal file.
        problem: Fault of the row, "" if none.
    """

    row: str
    subject: str
    id: str
    time: datetime | None
    file: str
    problem: str


class MimicEcgSource(Source):
    """The unpacked MIMIC-IV-ECG 1.0, or a part of it: `--data.manifest FOLDER`.

    Of `record_list.csv` the columns `subject_id`, `study_id`, `ecg_time` and `path` are read, of
    `machine_measurements.csv` `study_id` and `report_0` to `report_17`; both names and meaning as the release
    documents them, not checked against the release. The files have aVF before aVL: leads are known by name.

    Columns: `ecg` (a file), `text` (the machine's report, one sentence a line of it), `id` (the study), `group` (the
    patient). The release has no split: `--data.validation` and `--data.test` divide by patient. A record without any
    line of a report is left out where `text` is asked for.

    Raises:
        UserError: the folder lacks a table, a table lacks a column, or an option is given.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"ecg": "ecg", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        check_options(config, ())
        self._columns = named_columns(config, COLUMNS, "MIMIC-IV-ECG", self.default_columns)
        texts = towers_of("text", self._columns)
        self._files = towers_of("ecg", self._columns)
        self._needed = texts
        needed = TABLES if texts else TABLES[:1]
        self.folder = folder_of(config.manifest or config.files, "mimic-ecg", "--data.manifest", needed)
        self._store = open_store(self.folder)

    @cached_property
    def _records(self) -> list[Record]:
        texts = reports(self.folder) if self._needed else {}
        records = []
        for study in studies(self.folder):
            text = texts.get(study.id, "")
            if self._needed and not text:
                continue
            problem = Rejected(study.row, study.id, "", "", study.problem) if study.problem else None
            cells = {"ecg": (study.file,), "text": (text,), "id": (study.id,), "group": (study.subject,)}
            values = tower_values(cells, self._columns)
            records.append(Record(study.id, study.row, values, study.subject or None, problem=problem))
        return records

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        return self._store.fetch(name)

    def fingerprint(self) -> str:
        return fingerprint_of(self._records, {"": self._store}, self._files)


def studies(folder: Path) -> Iterator[Study]:
    """The rows of `record_list.csv`."""
    path = table(folder, TABLES[0])
    assert path is not None  # checked by `folder_of`
    for row, cells in rows(path, ("subject_id", "study_id", "ecg_time", "path")):
        problem = next((f"expected a {name}, got none" for name, cell in cells.items() if not cell), "")
        time = time_of(cells["ecg_time"])
        if not problem and time is None:
            problem = f"expected ecg_time as 2180-07-23 08:44:00, got {cells['ecg_time'][:40]!r}"
        # The signal file, not the header: its content says whether two records are one.
        file = f"{cells['path']}.dat" if cells["path"] else ""
        yield Study(row, cells["subject_id"], cells["study_id"], time, file, problem)


def reports(folder: Path) -> dict[str, str]:
    """Study -> the machine's report; studies without a line of it are absent."""
    path = table(folder, TABLES[1])
    assert path is not None  # checked by `folder_of`
    texts = {}
    for _, cells in rows(path, ("study_id", *REPORT[:1]), REPORT[1:]):
        lines = [cells[name].rstrip(" .") for name in REPORT if cells.get(name)]
        if text := " ".join(f"{line}." for line in lines if line):
            texts[cells["study_id"]] = text
    return texts


def time_of(cell: str) -> datetime | None:
    """Parse a date and time of MIMIC; None if invalid.

    Example:
        >>> time_of("2180-07-23 08:44:00"), time_of("soon")
        (datetime.datetime(2180, 7, 23, 8, 44), None)
    """
    try:
        return datetime.fromisoformat(cell).replace(tzinfo=None)
    except ValueError:
        return None
