"""The result of a comparison: a table, JSON values and a forest plot."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmalign.bundles.bundle_files import finite
from mmalign.evaluation.comparison.metrics import LOWER_IS_BETTER
from mmalign.safe_io.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """The difference of one metric between two models on the same queries.

    Args:
        model: Name of the model.
        baseline: Name of the model that it is compared with.
        direction: Direction of a retrieval, `<query tower>_to_<gallery tower>`; "" for other tasks.
        metric: Name of the metric.
        value: The model's metric.
        baseline_value: The baseline's metric.
        difference: `value - baseline_value`.
        interval: 95 % interval of the difference; not corrected for multiplicity.
        p: Two-sided p value of a difference of zero.
        p_holm: The p value after Holm's correction over all differences of the comparison.
    """

    model: str
    baseline: str
    direction: str
    metric: str
    value: float
    baseline_value: float
    difference: float
    interval: Sequence[float]
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the difference is significant at 5 % after Holm's correction."""
        return self.p_holm < LEVEL

    @property
    def name(self) -> str:
        """Metric and direction in words; of a metric that is an error or a rank, that a lower value is better."""
        words = [self.direction.replace("_to_", " → "), self.metric.replace("_", " ")]
        return " ".join(word for word in words if word) + (" (lower is better)" * (self.metric in LOWER_IS_BETTER))


@dataclass(frozen=True)
class Comparison:
    """Differences of models on the same queries; `show` prints them, `to_json` returns them, `draw` draws them.

    Args:
        task: The task.
        models: Name -> path and hash of its bundle, and its metrics by direction with intervals.
        differences: Every difference, by pair of models, direction and metric.
        provenance: Data, split, queries, groups, seed, resamples and the definition of intervals and p values.
        notes: What limits the comparison, such as a model that was trained on other data.
    """

    task: str
    models: Mapping[str, Mapping[str, Any]]
    differences: Sequence[Difference]
    provenance: Mapping[str, Any]
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        rows = [asdict(one) | {"significant": one.significant} for one in self.differences]
        plain = {"task": self.task, "models": self.models, "differences": rows}
        plain |= {"provenance": self.provenance, "notes": list(self.notes)}
        return {key: finite(value) for key, value in plain.items()}

    def table(self) -> "Table":
        """One row per difference: the two values, the difference with its interval, p and Holm's p."""
        from rich.table import Table
        from rich.text import Text

        origin = self.provenance
        title = (
            f"{self.task} on {origin['split']}: paired differences, 95 % interval of {origin['resamples']} resamples"
        )
        table = Table(title=title, title_justify="left")
        table.add_column("")
        pairs = dict.fromkeys((one.model, one.baseline) for one in self.differences)
        one_pair = next(iter(pairs)) if len(pairs) == 1 else None
        for head in (one_pair[1], one_pair[0], "difference") if one_pair else ("baseline", "model", "difference"):
            table.add_column(Text(printable(head)), justify="right", no_wrap=head == "difference")
        table.add_column("p", justify="right", no_wrap=True)
        table.add_column("p (Holm)", justify="right", no_wrap=True)
        for pair in pairs:
            if not one_pair:
                table.add_section()
                table.add_row(Text(printable(f"{pair[0]} minus {pair[1]}"), style="bold"))
            for one in self.differences:
                if (one.model, one.baseline) == pair:
                    table.add_row(Text(one.name), *_cells(one))
        lines = [*(f"{key}: {origin['protocol'][key]}" for key in ("queries", "p (Holm)")), *self.notes]
        table.caption, table.caption_justify = Text("\n".join(map(printable, lines))), "left"
        return table

    def show(self) -> None:
        """Print the table."""
        from rich.console import Console

        Console().print(self.table())

    def figure(self) -> "Figure":
        """A forest plot: every difference with its interval; filled = significant after Holm's correction."""
        from mmalign.pictures.forest import ForestRow, forest

        pairs = dict.fromkeys((one.model, one.baseline) for one in self.differences)
        rows = [
            ForestRow(
                one.name if len(pairs) == 1 else f"{one.model} − {one.baseline}: {one.name}",
                one.difference,
                one.interval,
                one.significant,
                one.metric if one.metric in LOWER_IS_BETTER else "",
            )
            for one in self.differences
        ]
        model, baseline = next(iter(pairs)) if len(pairs) == 1 else ("model", "baseline")
        title = f"{self.task}, {self.provenance['split']} split: {model} minus {baseline}"
        return forest(rows, xlabel=f"difference: {model} minus {baseline}", title=title)

    def draw(self, path: Path | str) -> None:
        """Draw the forest plot and save it."""
        from mmalign.pictures import save

        save(self.figure(), path)


def _cells(one: Difference) -> list[str]:
    digits = 1 if one.metric == "mean_rank" else 3
    interval = f"  [{one.interval[0]:+.{digits}f}, {one.interval[1]:+.{digits}f}]" if one.interval else ""
    star = " *" if one.significant else ""
    return [
        f"{one.baseline_value:.{digits}f}",
        f"{one.value:.{digits}f}",
        f"{one.difference:+.{digits}f}{interval}",
        f"{one.p:.4f}",
        f"{one.p_holm:.4f}{star}",
    ]
