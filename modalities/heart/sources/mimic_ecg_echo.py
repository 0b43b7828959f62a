"""The source `mimic-ecg-echo`: ECGs of MIMIC-IV-ECG with the echo clips of the same patient around the same time."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from mmalign.data.files.open import open_store
from mmalign.data.files.store import FileStore
from mmalign.data.sources.base import Record, Rejected, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import BadSample, UserError
from mmalign.registry import missing_extra
from modalities.common.reading.dicom_log import quiet_dicom
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
from modalities.ecg.sources.mimic import TABLES, reports, studies, time_of
from modalities.heart.simulator.ejection_fraction import class_of, sentence_of

RECORDS, MEASUREMENTS = "echo-record-list.csv", "structured-measurement.csv"
COLUMNS = ("ecg", "echo", "text", "echo_text", "label", "id", "group")
OPTIONS = ("echo", "window_days", "clips", "clips_per_study")
ECG, ECHO = "ecg/", "echo/"
"""Prefixes of file names, by folder."""

Timed = dict[str, list[tuple[datetime, Any]]]


class MimicEcgEchoSource(Source):
    """MIMIC-IV-ECG (`--data.manifest FOLDER`) joined to MIMIC-IV-ECHO (`--data.options.echo FOLDER`) by patient.

    A record is an ECG with an echo within `window_days`; every clip in that window is one of its alternatives.
    The source reads the columns `subject_id`, `study_id`, `acquisition_datetime` and `dicom_filepath` of
    `echo-record-list.csv` and, if the folder has it (release 1.0), `subject_id`, `measurement_datetime`, `measurement`
    (`lvef`), `result` and `test_type` (`tte`) of `structured-measurement.csv`, plain or gzipped. The names are taken
    from public code for the releases; they were not checked against the releases.

    Columns: `ecg`, `echo` (files), `text` (the ECG machine's report), `echo_text` (a sentence of the ejection
    fraction, which is the evaluation target), `label` (the class of the ejection fraction), `id` (the ECG's
    study), `group` (the patient). Target: `ejection_fraction`, the one measured at rest nearest in time within the
    window. There is no split: `--data.validation` and `--data.test` divide by patient.

    Options: `echo`, the folder; `window_days` (1), the largest distance in time; `clips`, a CSV with a column
    `dicom_filepath`: the clips to use, of one view for instance; `clips_per_study` (4), the number of clips of a study,
    in the order of their names, if `clips` is not given. The header of each file is then read, to skip still images.

    Raises:
        UserError: a folder lacks a table, a table lacks a column, or an option is unknown or out of its range.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"ecg": "ecg", "echo": "echo", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        check_options(config, OPTIONS)
        self._columns = named_columns(config, COLUMNS, "MIMIC-IV-ECG with MIMIC-IV-ECHO", self.default_columns)
        self._window = timedelta(days=_number(config, "window_days", 1, 0, 3650))
        self._most = int(_number(config, "clips_per_study", 4, 1, 10_000))
        needed = TABLES if towers_of("text", self._columns) else TABLES[:1]
        self.folder = folder_of(config.manifest or config.files, config.source, "--data.manifest", needed)
        self.echo_folder = folder_of(config.options.get("echo"), config.source, "--data.options.echo", (RECORDS,))
        self._cines: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._stores: dict[str, FileStore] = {ECG: open_store(self.folder), ECHO: open_store(self.echo_folder)}

    @cached_property
    def _records(self) -> list[Record]:
        texts = reports(self.folder) if towers_of("text", self._columns) else {}
        echoes, fractions = self._echoes(), self._fractions()
        records = []
        for study in studies(self.folder):
            near = _within(echoes.get(study.subject, []), study.time, self._window)
            clips = [ECHO + name for echo in near for name in self._clips(echo)]
            problem = Rejected(study.row, study.id, "", "", study.problem) if study.problem else None
            if not clips and not (problem and study.subject in echoes):
                continue
            fraction = next(iter(_within(fractions.get(study.subject, []), study.time, self._window)), None)
            labels = () if fraction is None else (f"{class_of(fraction)} ejection fraction",)
            cells: dict[str, tuple[Any, ...]] = {
                "ecg": (ECG + study.file,),
                "echo": tuple(clips),
                "text": (texts[study.id],) if study.id in texts else (),
                "echo_text": () if fraction is None else (sentence_of(fraction),),
                "label": labels,
                "id": (study.id,),
                "group": (study.subject,),
            }
            targets = {} if fraction is None else {"ejection_fraction": fraction}
            values = tower_values(cells, self._columns)
            records.append(Record(study.id, study.row, values, study.subject or None, labels, None, problem, targets))
        return records

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        for start, store in self._stores.items():
            if name.startswith(start):
                return store.fetch(name.removeprefix(start))
        raise BadSample(name, f"a name that begins with {ECG} or {ECHO}", "another")

    def fingerprint(self) -> str:
        files = [tower for tower, column in self._columns.items() if column in ("ecg", "echo")]
        return fingerprint_of(self._records, self._stores, files)

    def _echoes(self) -> Timed:
        """Patient -> time and clips of each echo study; the time is that of its first clip."""
        wanted, path = self._wanted(), table(self.echo_folder, RECORDS)
        assert path is not None  # checked by `folder_of`
        by_study: dict[tuple[str, str], list[tuple[datetime, str]]] = defaultdict(list)
        for row, cells in rows(path, ("subject_id", "study_id", "acquisition_datetime", "dicom_filepath")):
            time, name = time_of(cells["acquisition_datetime"]), cells["dicom_filepath"]
            if not name or (wanted is not None and name not in wanted):
                continue
            if time is None:
                came = cells["acquisition_datetime"][:40]
                raise UserError(f"{row}: expected acquisition_datetime as 2180-07-23 08:44:00, got {came!r}")
            by_study[cells["subject_id"], cells["study_id"]].append((time, name))
        studies: Timed = defaultdict(list)
        for (subject, _), clips in by_study.items():
            studies[subject].append((min(clips)[0], tuple(sorted(name for _, name in clips))))
        return studies

    def _wanted(self) -> set[str] | None:
        table = self.config.options.get("clips")
        if table is None:
            return None
        path = Path(str(table)).expanduser()
        if not path.is_file():
            raise UserError(f"--data.options.clips: expected a CSV with a column dicom_filepath, got no file {path}")
        return {cells["dicom_filepath"] for _, cells in rows(path, ("dicom_filepath",))}

    def _clips(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The clips of one study that are used."""
        if self.config.options.get("clips") is not None:
            return names
        if names not in self._cines:
            self._cines[names] = tuple(islice(filter(self._is_cine, names), self._most))
        return self._cines[names]

    def _is_cine(self, name: str) -> bool:
        """Whether the header states several frames; unreadable files count, so that they are rejected with a reason."""
        try:
            import pydicom
        except ModuleNotFoundError as error:
            raise missing_extra("pydicom", "echo") from error
        try:
            content = self._stores[ECHO].fetch(name)
            stream = BytesIO(content) if isinstance(content, bytes) else content
            with quiet_dicom:
                header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
            return int(header.get("NumberOfFrames") or 1) > 1
        except Exception:  # the modality's reader reports the reason
            return True

    def _fractions(self) -> Timed:
        """Patient -> time and value of each ejection fraction at rest."""
        path = table(self.echo_folder, MEASUREMENTS)
        fractions: Timed = defaultdict(list)
        if path is None:
            return fractions
        needed = ("subject_id", "measurement_datetime", "measurement", "result")
        for _, cells in rows(path, needed, ("test_type",)):
            if cells["measurement"].lower() != "lvef" or cells.get("test_type", "tte").lower() != "tte":
                continue
            time, value = time_of(cells["measurement_datetime"]), number_of(cells["result"], 1, 100)
            if time is not None and value is not None:
                fractions[cells["subject_id"]].append((time, value))
        return fractions


def _within(timed: Sequence[tuple[datetime, Any]], time: datetime | None, window: timedelta) -> list[Any]:
    """Entries within the window around a time, nearest first."""
    if time is None:
        return []
    near = [(abs(then - time), value) for then, value in timed if abs(then - time) <= window]
    return [value for _, value in sorted(near)]


def _number(config: SourceConfig, name: str, default: int, low: int, high: int) -> float:
    value = config.options.get(name, default)
    whole = name == "clips_per_study"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        raise UserError(f"--data.options.{name}: expected a {kind} in {low}..{high}, got {value!r}")
    return value
