"""The source `ptbxl`: PTB-XL, 21,799 clinical ECGs with reports and SCP-ECG statements (Wagner et al. 2020)."""

import ast
import csv
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmalign.data.files.open import open_store
from mmalign.data.sources.base import Record, Rejected, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import UserError
from mmalign.registry import nearest
from modalities.common.reading.local_file import is_file
from modalities.common.reading.silence import quiet_warnings
from modalities.common.sources.published_dataset import tower_values, towers_of

SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
COLUMNS = ("ecg", "text", "report", "label", "group", "id", "split")
OPTIONS = {"rate": (100, 500)}
TABLES = ("ptbxl_database.csv", "scp_statements.csv")
ADVICE = "the unpacked PTB-XL from physionet.org/content/ptb-xl"

SPLITS = {"9": "validation", "10": "test"} | {str(fold): "train" for fold in range(1, 9)}
"""Fold -> split, as recommended by the authors; no patient is in two folds."""


class PtbxlSource(Source):
    """The folder of PTB-XL, or of a part of it: `--data.manifest FOLDER`; else `$MMALIGN_DATA/ptbxl_500`.

    Columns: `ecg` (a file), `text` (the SCP-ECG statements as English sentences), `report` (as it was written, mostly
    in German), `label` (the superclasses NORM, MI, STTC, CD and HYP; several or none a record), `group` (the patient).
    The statements paraphrase the superclass: a model trained on `text` has been trained on labels, one trained on
    `report` has not.

    A few records have no report; they are left out if `report` is used.

    Options: `rate`, 100 (default) or 500: which of the two files of a record.

    Raises:
        UserError: the folder lacks a table, or an option is unknown.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"ecg": "ecg", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        for name, value in config.options.items():
            if name not in OPTIONS:
                raise UserError(f"source 'ptbxl' has no option {name!r}{nearest(name, OPTIONS)}")
            if value not in OPTIONS[name]:
                raise UserError(f"--data.options.{name}: expected one of {OPTIONS[name]}, got {value!r}")
        self.folder = _folder(config)
        self._columns = named_columns(config, COLUMNS, "PTB-XL", self.default_columns)
        self._file = "filename_lr" if config.options.get("rate", 100) == 100 else "filename_hr"
        self._statements = {row[""]: row for row in _rows(self.folder / TABLES[1], ("", "description"))}
        self._store = open_store(self.folder)

    def records(self) -> Sequence[Record]:
        needed = ("ecg_id", "patient_id", "report", "scp_codes", "strat_fold", self._file)
        records = [self._record(row, line) for line, row in enumerate(_rows(self.folder / TABLES[0], needed), start=2)]
        report_towers = towers_of("report", self._columns)
        return [record for record in records if all(tower in record.values for tower in report_towers)]

    def _record(self, row: dict[str, str], line: int) -> Record:
        where, name = f"{TABLES[0]}:{line}", row["ecg_id"]
        problem = None
        try:
            with quiet_warnings:  # of Python's parser
                codes = ast.literal_eval(row["scp_codes"])
            if not isinstance(codes, dict) or not all(map(_is_statement, codes.items())):
                raise ValueError
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            codes = {}
            problem = Rejected(where, name, "", "", f"expected scp_codes as a dict, got {row['scp_codes'][:40]!r}")
        labels = self._labels(codes)
        # The signal file, not the header: its content says whether two records are one.
        cells: dict[str, tuple[Any, ...]] = {
            "ecg": (row[self._file] + ".dat",) if row[self._file] else (),
            "text": (sentence,) if (sentence := self.sentence(codes)) else (),
            "report": (row["report"],) if row["report"].strip() else (),
            "label": labels,
            "id": (name,),
        }
        patient = row["patient_id"].removesuffix(".0")
        values = tower_values(cells, self._columns)
        return Record(name, where, values, patient or None, labels, SPLITS.get(row["strat_fold"], ""), problem)

    def sentence(self, codes: Mapping[str, float]) -> str:
        """SCP-ECG statements in English, as one text: diagnoses first, then form and rhythm."""
        statements = [(self._statements[code], likely) for code, likely in codes.items() if code in self._statements]
        order = ("diagnostic", "form", "rhythm")
        statements.sort(key=lambda one: next((rank for rank, kind in enumerate(order) if one[0].get(kind)), len(order)))
        # A likelihood of 0 means none was given: only 1 to 49 marks an uncertain statement.
        words = [("possibly " if 0 < likely < 50 else "") + row["description"].strip() for row, likely in statements]
        return " ".join(f"{word[:1].upper()}{word[1:]}." for word in words if word)

    def _labels(self, codes: Mapping[str, float]) -> tuple[str, ...]:
        rows = (self._statements.get(code, {}) for code in codes)
        classes = {row.get("diagnostic_class") for row in rows if row.get("diagnostic")}
        return tuple(name for name in SUPERCLASSES if name in classes)

    def fetch(self, name: str) -> Path | bytes:
        return self._store.fetch(name)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for record in self.records():
            digest.update(repr((record.id, record.values, record.group, record.labels, record.split)).encode())
            # A header holds the checksum of each of its signals.
            for value in record.values.values():
                header = self.folder / str(value[0]).replace(".dat", ".hea")
                if str(value[0]).endswith(".dat") and is_file(header):
                    digest.update(header.read_bytes())
        return digest.hexdigest()


def _is_statement(item: tuple[Any, Any]) -> bool:
    """Whether a code and its likelihood in per cent are a text and a number."""
    code, likelihood = item
    return isinstance(code, str) and isinstance(likelihood, int | float)


def _folder(config: SourceConfig) -> Path:
    path = config.manifest or config.files
    if path is None:
        root = os.environ.get("MMALIGN_DATA")
        if not root:
            raise UserError(f"source 'ptbxl' needs {ADVICE}: --data.manifest FOLDER, or MMALIGN_DATA with ptbxl_500")
        path = str(Path(root) / "ptbxl_500")
    folder = Path(path).expanduser()
    folder = folder.parent if folder.name == TABLES[0] else folder
    for name in TABLES:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: expected {ADVICE}, got a folder without {name}")
    return folder


def _rows(path: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            for name in needed:
                if name not in (reader.fieldnames or ()):
                    came = ", ".join(reader.fieldnames or ["none"])[:300]
                    raise UserError(f"{path}: expected a column {name!r}, got {came}")
            yield from reader
    except csv.Error as error:
        raise UserError(f"{path}: expected a CSV table, got a damaged one: {error}") from error
