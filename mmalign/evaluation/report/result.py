"""Evaluation result: scores, provenance, and details for figures."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmalign.bundles import bundle
from mmalign.bundles.bundle_files import finite
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.safe_io.safe_writing import locked, replaced
from mmalign.version import __version__

if TYPE_CHECKING:
    from rich.table import Table

MAX_BYTES = 64 * 2**20
_SHOWN = ("relevance", "ranks", "exclude_seen_groups", "rerank", "ensemble", "similarity", "dims")


@dataclass
class EvalResult:
    """Result of an evaluation.

    Args:
        task: One of `mmalign.evaluation.run_task.TASKS`.
        scores: Numbers by name, intervals beside them as `<name>_ci: [low, high]`; in retrieval by direction.
        provenance: Versions, seed, hashes of data, prompts and bundle, split, protocol, date.
        details: Tensors for figures; never saved.
        rows: One row per query or sample, as columns by name; empty for tasks without them.
    """

    task: str
    scores: dict[str, Any]
    provenance: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict, repr=False)
    rows: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values: task, scores, provenance; undefined scores are null."""
        plain = {"task": self.task, "scores": self.scores, "provenance": self.provenance}
        return {key: finite(value) for key, value in plain.items()}

    def append_to(self, path: Path | str) -> None:
        """Append to `results.json` of a bundle or run, a JSON list, newest last, and to its model card.

        Args:
            path: A bundle, a run, or another results file whose name ends in .json.

        Raises:
            UserError: there is no bundle, or the file exists and is not a list of results.
        """
        folder = None if Path(path).suffix == ".json" else bundle.find(path)
        file = Path(path) if folder is None else folder / "results.json"
        with locked(file.with_name(f".{file.name}.lock"), str(file), wait=60):
            self._append(file)
            if folder is not None:
                bundle.update_card(folder)

    def _append(self, path: Path) -> None:
        results: list[Any] = []
        if path.exists():
            if not path.is_file():  # a pipe would not end
                raise UserError(f"{path}: expected a JSON list of results, got a folder or a pipe; move it away")
            try:
                if path.stat().st_size > MAX_BYTES:
                    raise UserError(f"{path}: expected at most {MAX_BYTES >> 20} MB of results; move the file away")
                results = json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: expected a JSON list of results: {error}; move the file away") from error
        if not isinstance(results, list):
            raise UserError(f"{path}: expected a JSON list of results, got {type(results).__name__}; move it away")
        text = json.dumps([*results, self.to_json()], indent=2, ensure_ascii=False, allow_nan=False)
        with replaced(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    def table(self) -> "Table":
        """The scores as a table for the screen: one column per direction, with intervals."""
        from rich.table import Table
        from rich.text import Text

        columns: Mapping[str, Mapping[str, Any]] = self.scores
        if self.task != "retrieval":
            columns = {"score": self.scores}
        interval = ""
        if resamples := self.provenance["resamples"]:
            interval = f", 95 % interval of {resamples} resamples"
            interval = interval if _any_interval(columns) else ", no interval: resampling needs two records or groups"
        table = Table(title=f"{self.task} on {self.provenance['split']}{interval}", title_justify="left")
        table.add_column("")
        for name in columns:
            table.add_column(name.replace("_to_", " -> ").replace("_", " "), justify="right")
        names = dict.fromkeys(name for column in columns.values() for name in column if not name.endswith("_ci"))
        for name in names:
            cells = [_cell(name, column.get(name), column.get(f"{name}_ci")) for column in columns.values()]
            if any(cells):
                table.add_row(name.replace("_", " "), *cells)
        table.caption, table.caption_justify = Text(_notes(self.provenance)), "left"
        return table

    def show(self) -> None:
        """Print the table, and its inner tables."""
        from rich.console import Console

        from mmalign.evaluation.report.tables import inner_tables

        Console().print(self.table(), *(inner_tables(self.scores) if self.task != "retrieval" else ()))

    def write_rows(self, path: Path | str) -> None:
        """Write one row per query or sample to a Parquet or CSV file: rank, scores, truth, prediction, uncertainty.

        A Parquet file also stores the result, so that `mmalign.compare` can compare it with another.

        Raises:
            UserError: the task has no rows, or the file ends neither in .parquet nor in .csv.
        """
        from mmalign.evaluation.report.rows import write_rows

        write_rows(self.rows, path, self.to_json())

    @staticmethod
    def read_rows(path: Path | str) -> "EvalResult":
        """The result and the rows of a Parquet file that `write_rows`, or `mmalign evaluate --rows`, has written.

        Raises:
            UserError: it is not such a file.
        """
        from mmalign.evaluation.report.rows import read_rows

        columns, result = read_rows(path)
        return EvalResult(result["task"], result["scores"], result["provenance"], rows=columns)

    def draw(self, path: Path | str) -> None:
        """Draw the task's figure, for instance similarity matrix (retrieval) or confusion matrix (zero-shot)."""
        from mmalign.evaluation.report.figures import draw

        draw(self, path)


def provenance(
    model: Aligner,
    data: Dataset,
    *,
    split: str,
    seed: int,
    protocol: Mapping[str, str],
    resamples: int,
    prompts_hash: str | None = None,
) -> dict[str, Any]:
    """Everything needed to reproduce the scores."""
    folder = getattr(model, "path", None)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "mmalign": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "split": split,
        "seed": seed,
        "resamples": resamples,
        "data_hash": data.fingerprint(),
        "prompts_hash": prompts_hash,
        "bundle_hash": bundle.fingerprint(folder) if folder else None,
        "protocol": dict(protocol),
    }


def rows_of(data: Dataset, split: str) -> dict[str, Any]:
    """Origin of the records of a split, numbers of used, rejected and incomplete ones, and the first three reasons."""
    counts: dict[str, Any] = {"used": len(data.split(split).records)}
    rejected, incomplete = (
        [faults[index] for index in sorted(faults) if split in ("all", data.splits[index])]
        for faults in (data.unusable, data.missing)
    )
    config = data.config
    source = {"source": config.source, "options": dict(config.options or {})}
    return (
        source
        | counts
        | {
            "rejected": len(rejected),
            "incomplete": len(incomplete),
            "reasons": [str(one) for one in [*rejected, *incomplete][:3]],
        }
    )


def _notes(origin: Mapping[str, Any]) -> str:
    """Settings of a retrieval, as lines for the screen."""
    rows, protocol = origin.get("rows"), origin["protocol"]
    if not rows:
        return ""
    options = ", ".join(f"{name} {value}" for name, value in rows.get("options", {}).items())
    of = f" of {rows['source']}" + (f" ({options})" if options else "") if "source" in rows else ""
    lines = [f"{origin['split']}{of}: {rows['used']} rows, {rows.get('rejected', 0)} rejected"]
    for name, one in origin.get("gallery", {}).items():
        bad = f", {one['unusable']} unusable" if one.get("unusable") else ""
        lines.append(f"{name.replace('_to_', ' -> ')}: gallery of {one['size']} items, the {one['set']}{bad}")
    lines += [f"{name}: {protocol[name]}" for name in _SHOWN if name in protocol]
    lines += [f"bundle {one['hash']}: {one['path']}" for one in origin.get("bundles", ())]
    return "\n".join(lines)


def _any_interval(columns: Mapping[str, Any]) -> bool:
    """Whether there is an interval, also in inner tables."""
    return any(
        name.endswith("_ci") or (isinstance(value, Mapping) and _any_interval(value)) for name, value in columns.items()
    )


def _cell(name: str, value: Any, interval: Any) -> str:
    if value is None or isinstance(value, Mapping | list | tuple):
        return ""
    digits = 1 if name.endswith("rank") else 3
    shown = str(value) if isinstance(value, int) else f"{value:.{digits}f}"
    return shown if not interval else f"{shown}  [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
