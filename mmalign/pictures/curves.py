"""Training curves from the CSV log of a run."""

import csv
import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmalign.errors import UserError
from mmalign.pictures.figures import COLOURS, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BYTES = 512 * 2**20
MAX_PANELS = 12
Points = list[tuple[float, float]]


def training_curves(path: Path | str, *, title: str = "") -> "Figure":
    """Draw every logged value over steps: one panel per quantity, one line per split and pair.

    `train/loss` and `validation/loss` share the panel `loss`: the last part of a name is the quantity.

    Args:
        path: A CSV with a `step` (or else `epoch`) column, as Lightning's CSVLogger writes it; blanks are skipped.
        title: Title of the figure.

    Raises:
        UserError: the file is missing, larger than 512 MB, or contains no value to draw.
    """
    lines, unit = _read(Path(path))
    panels: dict[str, dict[str, Points]] = defaultdict(dict)
    for name in sorted(lines, key=lambda name: (name.count("/"), name)):
        quantity = name.rsplit("/", 1)[-1].removesuffix("_step").removesuffix("_epoch")
        if lines[name] not in panels[quantity].values():  # the loss of the only pair is the loss: one line
            panels[quantity][name] = lines[name]
    # Losses first, then as logged; a run with very many quantities shows the first ones.
    order = sorted(panels, key=lambda quantity: "loss" not in quantity)[:MAX_PANELS]
    columns = 2 if len(order) == 4 else min(len(order), 3)
    rows = -(-len(order) // columns)
    figure = new_figure(max(5.0, 4.0 * columns), 2.7 * rows + (0.4 if title else 0.0))
    for index, quantity in enumerate(order):
        axes = figure.add_subplot(rows, columns, index + 1)
        for i, (name, points) in enumerate(panels[quantity].items()):
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) <= 40 else None
            axes.plot(steps, values, color=COLOURS[i % len(COLOURS)], linestyle=("-", "--", ":")[i // len(COLOURS) % 3],
                      linewidth=1.4, marker=marker, markersize=3, label=label(name))  # fmt: skip
        axes.set_title(label(quantity.replace("_", " ")), fontsize=10)
        axes.set_xlabel(unit, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(panels[quantity]) > 1:
            axes.legend(fontsize=7, frameon=False)
    if title:
        figure.suptitle(label(title, width=80), fontsize=11)
    return figure


def _read(path: Path) -> tuple[dict[str, Points], str]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: expected at most {MAX_BYTES >> 20} MB")
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            unit = next((name for name in ("step", "epoch") if name in names), "")
            if not unit:
                raise UserError(f"{path}: expected a column step or epoch, got {', '.join(names)[:200] or 'none'}")
            lines: dict[str, Points] = defaultdict(list)
            for row in reader:
                step = _number(row[unit])
                for name in names:
                    value = _number(row[name])
                    if name not in ("step", "epoch") and step is not None and value is not None:
                        lines[name].append((step, value))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected a CSV log of a run: {error}") from error
    if not lines:
        raise UserError(f"{path}: no number to draw; the run may have stopped before its first log line")
    return lines, unit


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
