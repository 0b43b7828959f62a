"""Results of every task: all metrics with intervals, baselines, protocol, and the task's figure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mmalign.bundles.headline import headlines
from mmalign.errors import UserError
from mmalign.evaluation.report.figures import figure
from mmalign.evaluation.report.result import EvalResult
from mmalign.reporting.blocks import Block, Table, Text, interval, number
from mmalign.reporting.context import Context
from mmalign.reporting.images import picture

OWN_PAGES = ("retrieval", "zero-shot")
"""Tasks whose figures have pages of their own."""
MOST_ROWS = 60


def results_page(context: Context) -> Sequence[Block]:
    """A table per task, earlier results of the bundle, and the skipped tasks with their reasons."""
    blocks: list[Block] = []
    for task, result in context.evaluations.results.items():
        if task == "geometry":  # see the page of the shared space
            continue
        blocks += [*_tables(task, result)]
        if task not in OWN_PAGES or (task == "zero-shot" and "uncertainty" in result.details):
            with suppress(UserError):  # nothing to draw
                blocks.append(picture(figure(result), f"Figure of the task {task}."))
        protocol = "; ".join(f"{name}: {value}" for name, value in result.provenance.get("protocol", {}).items())
        blocks.append(Text(f"Definitions: {protocol}", kind="small"))
    blocks += _earlier(context)
    if context.evaluations.skipped:
        rows = [[task, reason] for task, reason in context.evaluations.skipped.items()]
        blocks.append(Table(["task", "reason"], rows, "Skipped tasks"))
    return blocks


def _tables(task: str, result: EvalResult) -> Iterator[Table]:
    bases = {one.name: one for one in headlines(result.to_json())}
    if task == "retrieval":
        directions = list(result.scores)
        names = [name for name in result.scores[directions[0]] if not name.endswith("_ci") and name != "chance"]
        rows = []
        for name in names:
            cells = [name.replace("_", " ")]
            for direction in directions:
                column = result.scores[direction]
                base = bases.get(f"{direction.replace('_to_', ' → ')} {name}")
                cells.append(_with_interval(column.get(name), column.get(f"{name}_ci")))
                cells.append("" if base is None or base.baseline is None else number(base.baseline))
            rows.append(cells)
        heads = [head for one in directions for head in (one.replace("_to_", " → "), "chance")]
        yield Table(["", *heads], rows, f"retrieval, {result.provenance['split']} split")
        return
    plain = [
        [name.replace("_", " "), _with_interval(value, result.scores.get(f"{name}_ci")), _base(bases.get(name))]
        for name, value in result.scores.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not name.endswith("_ci")
    ]
    if plain:
        yield Table(["", "value [95 % interval]", "baseline"], plain, f"{task}, {result.provenance['split']} split")
    for name, table in result.scores.items():
        if isinstance(table, Mapping) and table and all(isinstance(row, Mapping) for row in table.values()):
            yield inner_table(f"{task}: {name.replace('_', ' ')}", table)


def inner_table(title: str, table: Mapping[str, Mapping[str, Any]]) -> Table:
    """A table of the scores of a result: one row per class, uncertainty estimate or data fraction."""
    heads = dict.fromkeys(key for row in table.values() for key in row if not key.endswith("_ci"))
    rows = [
        [name, *(_with_interval(row.get(head), row.get(f"{head}_ci")) for head in heads)]
        for name, row in list(table.items())[:MOST_ROWS]
    ]
    more = f", the first {MOST_ROWS} of {len(table)}" if len(table) > MOST_ROWS else ""
    return Table(["", *(head.replace("_", " ") for head in heads)], rows, title + more)


def _with_interval(value: Any, edges: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float):
        return ""
    return f"{number(value)} {interval(edges or ())}".strip()


def _base(one: Any) -> str:
    return "" if one is None or one.baseline is None else f"{number(one.baseline)} ({one.baseline_name})"


def _earlier(context: Context) -> list[Block]:
    """Principal metrics of tasks that were evaluated earlier and are not repeated here."""
    assert context.model.path is not None
    try:
        saved = json.loads((context.model.path / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    newest = {
        (str(one.get("task")), str(one["provenance"].get("split"))): one
        for one in (saved if isinstance(saved, list) else [])
        if isinstance(one, dict) and isinstance(one.get("provenance"), dict)
    }
    rows = [
        [f"{task}: {one.name}", split, number(one.value), interval(one.interval), _base(one)]
        for (task, split), result in newest.items()
        if task not in context.evaluations.results or split != context.split
        for one in headlines(result)
    ]
    head = ["metric", "split", "value", "95 % interval", "baseline"]
    return [Table(head, rows, "Earlier results of this bundle")] if rows else []
