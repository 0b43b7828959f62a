"""Data card: records, splits, labels, rejected records with reasons, duplicates, leakage, and a sheet of samples."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmalign.data.checking import check_samples
from mmalign.errors import UserError
from mmalign.reporting.blocks import Block, Gallery, Table, Text, number
from mmalign.reporting.context import Context

CHECKED = 3000
"""Maximum number of records whose duplicates and leakage are computed here; of more, `mmalign check` does."""
SHOWN, SHEET, ACROSS = 10, 6, 6
MAX_BYTES = 64 * 2**20


def data_page(context: Context) -> Sequence[Block]:
    """Counts by split and label, rejected records, duplicates and leakage, and some records of the split."""
    data = context.data
    config = data.config
    facts = [["source", config.source], ["hash", data.fingerprint()[:16]]]
    facts += [[name, str(value)] for name, value in (config.options or {}).items()]
    facts += [[name, text] for name, text in (("licence", config.licence), ("citation", config.citation)) if text]
    blocks: list[Block] = [Table(["data", ""], facts)]
    counts = Counter(data.splits)
    blocks.append(Table(["split", "records"], [[name, number(count)] for name, count in counts.items()], "Splits"))
    labels = Counter(label for record in context.part.records for label in record.labels)
    if labels:
        rows = [[name, number(count)] for name, count in labels.most_common(SHOWN)]
        more = f", the {SHOWN} most frequent of {len(labels)}" if len(labels) > SHOWN else ""
        blocks.append(Table(["class", "records"], rows, f"Classes of the {context.split} split{more}"))
    blocks += _rejected(context) + _shared(context)
    blocks.append(_sheet(context))
    return blocks


def _rejected(context: Context) -> list[Block]:
    rejected = [one.kind for one in context.data.rejected]
    listed = [] if context.run is None else _listed(context.run / "rejected.jsonl")
    kinds = Counter(str(one.get("kind", "")) for one in listed) if listed else Counter(rejected)
    incomplete = len(context.data.incomplete)
    if not kinds and not incomplete:
        return [Text("No record was rejected.")]
    rows = [[kind, number(count)] for kind, count in kinds.most_common()]
    rows += [["lacks a tower (left out)", number(incomplete)]] if incomplete else []
    blocks: list[Block] = [Table(["rejected because", "records"], rows, "Rejected records")]
    reasons = [
        [str(one.get("location", "")), str(one.get("tower", "")), str(one.get("reason", ""))[:300]] for one in listed
    ]
    if reasons:
        blocks.append(Table(["record", "tower", "reason"], reasons[:SHOWN]))
    return blocks


def _listed(file: Path) -> list[dict[str, Any]]:
    """The entries of rejected.jsonl; none if it is damaged."""
    try:
        if file.stat().st_size > MAX_BYTES:
            return []
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    except (OSError, ValueError, RecursionError):
        return []
    return [line for line in lines if isinstance(line, dict)]


def _shared(context: Context) -> list[Block]:
    data = context.data
    if len(data.records) > CHECKED:
        return [Text(f"Duplicates and leakage of {len(data.records):,} records: see mmalign check.")]
    try:
        report = check_samples(data.config, data.modalities)
    except UserError as error:
        return [Text(f"Duplicates and leakage were not computed: {error}")]
    kinds = {"equal content in several records": report.duplicates, "in two splits": report.leakage}
    rows = []
    for what, several in kinds.items():
        for one in several:
            tower = one.of + " (sentences may be equal)" * one.value_is_sample
            rows.append([what, tower, number(one.contents), number(one.rows)])
    if not rows:
        return [Text("No content occurs in several records, and no content or group in two splits.")]
    return [Table(["", "tower", "contents", "records"], rows, "Duplicates and leakage")]


def _sheet(context: Context) -> Gallery:
    count = len(context.part.records)
    chosen = [step * count // min(SHEET, count) for step in range(min(SHEET, count))]
    cells = [
        context.cell(row, tower, title=f"{context.label(row)}, {tower}")
        for row in chosen
        for tower in context.data.towers
        if tower in context.part.records[row].values
    ]
    across = len(context.data.towers) * max(1, ACROSS // len(context.data.towers))
    rows = [cells[start : start + across] for start in range(0, len(cells), across)]
    return Gallery(rows, f"Records of the {context.split} split, evenly spaced")
