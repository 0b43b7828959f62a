"""Standard twelve-lead page on ECG paper: 25 mm/s and 10 mm/mV."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.pictures.figures import ORANGE
from modalities.ecg.sample import LEADS, Ecg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = (("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3"), ("V4", "V5", "V6"))
RHYTHM = "II"
MM_SECOND, MM_MILLIVOLT = 25.0, 10.0
SECONDS, ROW_MM, MARGIN_MM = 10.0, 30.0, 10.0
HEIGHT_MM = 4 * ROW_MM + 2 * MARGIN_MM
PAPER, GRID, INK = "#fff8f6", "#e8a0a0", "#151515"


def draw_page(ecg: Ecg, axes: "Axes", weights: Sequence[float] | None = None) -> None:
    """Draw four columns of 2.5 s and a rhythm strip of 10 s below; the axes are in millimetres of paper.

    The field of a missing lead stays empty; the line has gaps where nothing was recorded. With weights, each lead is
    shaded by its own and labelled with its fraction of the sum; the strip is shaded by the sum of all leads. The
    largest weight of the leads, and that of the strip, have the full colour.

    Args:
        ecg: The recording; its first ten seconds are drawn.
        axes: Axes to draw on.
        weights: Weights of equal time segments of the recording, as many for each of the twelve leads, lead by lead; at
            least 0.

    Raises:
        UserError: weights that do not divide by twelve, or one that is negative, NaN or infinite.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from modalities.ecg import MODALITY
        >>> axes = Figure().subplots()
        >>> MODALITY.picture(MODALITY.toy_sample(0, np.random.default_rng(0)), axes)
        >>> [text.get_text() for text in axes.texts][:3]
        ['I', 'II', 'III']
    """
    width, height = SECONDS * MM_SECOND + 2 * MARGIN_MM, HEIGHT_MM
    axes.set_facecolor(PAPER)
    for step, thickness in ((1.0, 0.15), (5.0, 0.45)):
        lines = [[(x, 0.0), (x, height)] for x in np.arange(0, width + 0.1, step)]
        lines += [[(0.0, y), (width, y)] for y in np.arange(0, height + 0.1, step)]
        axes.add_collection(LineCollection(lines, colors=GRID, linewidths=thickness, zorder=0))
    strip = RHYTHM if RHYTHM in ecg.leads else ecg.leads[0]
    shares = dict.fromkeys(LEADS, "")
    if weights is not None:
        shares = _shade_page(ecg, axes, _table(weights))
    quarter = SECONDS / len(COLUMNS)
    for column, names in enumerate(COLUMNS):
        for row, lead in enumerate(names):
            name = lead + shares[lead]
            _draw_lead(ecg, lead, axes, column * quarter, quarter, _baseline(row), name)
    name = strip if weights is None else f"{strip} (shaded: all leads)"
    _draw_lead(ecg, strip, axes, 0.0, SECONDS, _baseline(3), name)
    axes.text(MARGIN_MM, 2, "25 mm/s   10 mm/mV", fontsize=6, color=INK)
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def _baseline(row: int) -> float:
    return HEIGHT_MM - MARGIN_MM - (row + 0.5) * ROW_MM


def _table(weights: Sequence[float]) -> NDArray[np.float64]:
    table = np.asarray(weights, dtype=np.float64)
    if table.ndim != 1 or not table.size or table.size % len(LEADS):
        raise UserError(f"expected as many weights for each of {len(LEADS)} leads, got shape {table.shape}")
    if not np.isfinite(table).all() or (table < 0).any():
        raise UserError("expected weights of at least 0, got a negative one, NaN or infinity")
    return table.reshape(len(LEADS), -1)


def _shade_page(ecg: Ecg, axes: "Axes", table: NDArray[np.float64]) -> dict[str, str]:
    """Shade leads and strip; returns the suffix of each lead's label."""
    quarter = SECONDS / len(COLUMNS)
    for column, names in enumerate(COLUMNS):
        for row, lead in enumerate(names):
            own = table[LEADS.index(lead)] / max(table.max(), 1e-12)
            _shade(axes, own, ecg.seconds, column * quarter, quarter, _baseline(row))
    whole = table.sum(0)
    _shade(axes, whole / max(whole.max(), 1e-12), ecg.seconds, 0.0, SECONDS, _baseline(3))
    total = max(table.sum(), 1e-12)
    return {lead: f"  {table[row].sum() / total:.0%}" for row, lead in enumerate(LEADS)}


def _shade(
    axes: "Axes", sizes: NDArray[np.float64], lasts: float, start: float, seconds: float, baseline: float
) -> None:
    step = lasts / len(sizes)
    for index, size in enumerate(sizes.tolist()):
        left, right = max(index * step, start), min((index + 1) * step, start + seconds)
        if right > left and size > 0:
            at = MARGIN_MM + left * MM_SECOND, baseline - 0.4 * ROW_MM
            box = Rectangle(at, (right - left) * MM_SECOND, 0.66 * ROW_MM, facecolor=ORANGE, alpha=0.75 * size)
            box.set(linewidth=0, zorder=0.5)
            axes.add_patch(box)


def _draw_lead(ecg: Ecg, lead: str, axes: "Axes", start: float, seconds: float, baseline: float, name: str) -> None:
    if lead not in ecg.leads:
        return
    row = ecg.leads.index(lead)
    part = slice(round(start * ecg.rate), round((start + seconds) * ecg.rate))
    values, valid = ecg.signal[row, part], ecg.valid[row, part]
    left = MARGIN_MM + start * MM_SECOND
    axes.text(left + 1, baseline + 0.32 * ROW_MM, name, fontsize=7, color=INK)
    if valid.any():
        x = left + np.arange(len(values)) / ecg.rate * MM_SECOND
        centred = values - np.median(values[valid])
        axes.plot(x, baseline + np.where(valid, centred, np.nan) * MM_MILLIVOLT, color=INK, linewidth=0.6)
