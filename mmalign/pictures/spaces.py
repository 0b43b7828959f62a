"""Maps of a shared space: the vectors of two towers in the plane of their first two principal components."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.pictures.figures import BLUE, GREY, ORANGE, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
MOST = 1000
LINES = 50


def space_maps(panels: Mapping[str, Mapping[str, Floats]], *, title: str = "") -> "Figure":
    """Draw one panel per space, with the pairs of two towers as points, and lines between the first pairs.

    Args:
        panels: Name of a space -> tower -> vectors `(n, dim)`, dim at least 2, of the same n records in both towers.
        title: Title of the figure.

    Raises:
        UserError: no panel, or a panel without two towers of equal shape.
    """
    if not panels:
        raise UserError("expected at least one space to draw")
    figure = new_figure(4.6 * len(panels), 4.2)
    for number, (name, towers) in enumerate(panels.items()):
        shapes = {vectors.shape for vectors in towers.values()}
        if len(towers) != 2 or len(shapes) != 1 or min(next(iter(shapes))) < 2:
            raise UserError(f"{name}: expected two towers of equal shape, at least (2, 2), got {sorted(shapes)}")
        axes = figure.add_subplot(1, len(panels), number + 1)
        a, b = plane(*towers.values())
        for start, end in zip(a[:LINES], b[:LINES], strict=True):
            axes.plot(*zip(start, end, strict=True), color=GREY, linewidth=0.5, alpha=0.5, zorder=1)
        for tower, points, colour, marker in zip(towers, (a, b), (BLUE, ORANGE), "o^", strict=True):
            x, y = points[:MOST].T
            axes.scatter(x, y, s=12, color=colour, marker=marker, label=label(tower), alpha=0.7, linewidths=0)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(label(name), fontsize=10)
        axes.legend(fontsize=8, frameon=False)
    if title:
        figure.suptitle(label(title, width=78, lines=2), fontsize=10)
    return figure


def plane(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Coordinates of two sets of vectors on the first two principal components of both together.

    Args:
        a: `(n, dim)`.
        b: `(m, dim)`.

    Returns:
        `(n, 2)` and `(m, 2)`.
    """
    axes = PrincipalAxes.of(np.concatenate([a, b]))
    return axes.project(a), axes.project(b)


@dataclass(frozen=True)
class PrincipalAxes:
    """The plane of the first two principal components of some vectors.

    Args:
        mean: `(dim,)`.
        directions: Unit vectors `(2, dim)`.
        explained: Fraction of the variance of each component, `(2,)`.

    Example:
        >>> axes = PrincipalAxes.of(np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        >>> axes.explained.round(1).tolist()
        [0.9, 0.1]
    """

    mean: Floats
    directions: Floats
    explained: Floats

    @staticmethod
    def of(vectors: Floats) -> "PrincipalAxes":
        """Fit to vectors `(n, dim)`, n and dim at least 2."""
        mean = vectors.mean(axis=0)
        _, singular, directions = np.linalg.svd(vectors - mean, full_matrices=False)
        variance = singular**2
        return PrincipalAxes(mean, directions[:2], variance[:2] / max(float(variance.sum()), 1e-30))

    def project(self, vectors: Floats) -> Floats:
        """Coordinates `(n, 2)` of vectors `(n, dim)`."""
        projected: Floats = (vectors - self.mean) @ self.directions.T
        return projected
