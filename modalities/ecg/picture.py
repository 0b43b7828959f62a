"""The page that a cardiologist reads: twelve leads on ECG paper, 25 mm a second and 10 mm a millivolt."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection

from modalities.ecg.sample import Ecg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = (("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3"), ("V4", "V5", "V6"))
RHYTHM = "II"
MM_SECOND, MM_MILLIVOLT = 25.0, 10.0
SECONDS, ROW_MM, MARGIN_MM = 10.0, 30.0, 10.0
PAPER, GRID, INK = "#fff8f6", "#e8a0a0", "#151515"


def draw_page(ecg: Ecg, axes: "Axes") -> None:
    """Draw four columns of 2.5 s and a rhythm strip of 10 s below; the axes are in millimetres of paper.

    Where a lead is missing its place stays empty; where it was not recorded the line has a gap.

    Args:
        ecg: The recording; its first ten seconds are drawn.
        axes: Where to draw.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from modalities.ecg import MODALITY
        >>> axes = Figure().subplots()
        >>> MODALITY.picture(MODALITY.synthetic(0, np.random.default_rng(0)), axes)
        >>> [text.get_text() for text in axes.texts][:3]
        ['I', 'II', 'III']
    """
    width, height = SECONDS * MM_SECOND + 2 * MARGIN_MM, 4 * ROW_MM + 2 * MARGIN_MM
    axes.set_facecolor(PAPER)
    for step, thickness in ((1.0, 0.15), (5.0, 0.45)):
        lines = [[(x, 0.0), (x, height)] for x in np.arange(0, width + 0.1, step)]
        lines += [[(0.0, y), (width, y)] for y in np.arange(0, height + 0.1, step)]
        axes.add_collection(LineCollection(lines, colors=GRID, linewidths=thickness, zorder=0))
    quarter = SECONDS / len(COLUMNS)
    for column, names in enumerate(COLUMNS):
        for row, lead in enumerate(names):
            _draw_lead(ecg, lead, axes, column * quarter, quarter, height - MARGIN_MM - (row + 0.5) * ROW_MM)
    strip = RHYTHM if RHYTHM in ecg.leads else ecg.leads[0]
    _draw_lead(ecg, strip, axes, 0.0, SECONDS, height - MARGIN_MM - 3.5 * ROW_MM)
    axes.text(MARGIN_MM, 2, "25 mm/s   10 mm/mV", fontsize=6, color=INK)
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_lead(ecg: Ecg, lead: str, axes: "Axes", start: float, seconds: float, baseline: float) -> None:
    if lead not in ecg.leads:
        return
    row = ecg.leads.index(lead)
    part = slice(round(start * ecg.rate), round((start + seconds) * ecg.rate))
    values, valid = ecg.signal[row, part], ecg.valid[row, part]
    left = MARGIN_MM + start * MM_SECOND
    axes.text(left + 1, baseline + 0.32 * ROW_MM, lead, fontsize=7, color=INK)
    if valid.any():
        x = left + np.arange(len(values)) / ecg.rate * MM_SECOND
        centred = values - np.median(values[valid])
        axes.plot(x, baseline + np.where(valid, centred, np.nan) * MM_MILLIVOLT, color=INK, linewidth=0.6)
