"""Figures and thumbnails as data URIs; every thumbnail is drawn by its modality."""

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mmalign.capabilities import Explaining
from mmalign.modality import Modality
from mmalign.pictures.figures import new_figure
from mmalign.pictures.fonts import use_fonts_with_all_letters
from mmalign.reporting.blocks import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_DPI, THUMBNAIL_DPI = 150, 120
THUMBNAIL = (2.2, 1.65)
"""Width and height of a thumbnail in inches."""


def picture(figure: "Figure", alt: str, caption: str = "") -> Picture:
    """A figure as a block of the report."""
    return Picture(data_uri(figure, FIGURE_DPI), alt, caption, round(96 * figure.get_figwidth()))


def data_uri(figure: "Figure", dpi: int) -> str:
    """The figure as `data:image/png;base64,...`."""
    stream = io.BytesIO()
    use_fonts_with_all_letters(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        figure.savefig(stream, dpi=min(dpi, 4000 / max(figure.get_size_inches())), format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def thumbnail(modality: Modality, sample: Any, size: tuple[float, float] = THUMBNAIL) -> str:
    """A sample drawn by its modality, as a data URI; `size` is its width and height in inches."""
    return _drawn(lambda axes: modality.picture(sample, axes), size)


def weighted_thumbnail(modality: Explaining, sample: Any, weights: Sequence[float]) -> str:
    """A sample drawn by its modality with one weight per unit, as a data URI."""
    return _drawn(lambda axes: modality.weighted_picture(sample, axes, weights))


def _drawn(draw: Callable[[Any], None], size: tuple[float, float] = THUMBNAIL) -> str:
    figure = new_figure(*size)
    axes = figure.add_subplot()
    draw(axes)
    for text in axes.texts:
        text.set(fontsize=min(8.0, float(text.get_fontsize())), clip_on=True)
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="", title="")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return data_uri(figure, THUMBNAIL_DPI)
