"""False negatives by a guide: pairs that leave the denominators of a contrastive loss, tile by tile."""

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.matmul import dot_products


class FalseNegatives:
    """Negatives that a frozen guide scores above the positive (GISTEmbed, Solatorio 2024, arXiv 2402.16829, section 3).

    With the guide's similarities `g_ij` of row i and column j, the column j leaves the sum of row i where

        g_ij > g_ii - margin - relative_margin |g_ii|

    and row i leaves the sum of column j where the same holds with `g_jj`. Pairs of one group are positives and always
    stay. The paper masks the rows' sums only, and has further negatives within each tower.

    Args:
        a: Vectors of the rows by the guide, `(rows, dim)`.
        b: Vectors of all columns by the guide, `(columns, dim)`.
        limits_a: Output of `limits` of the rows, `(rows,)`.
        limits_b: The same of all columns, `(columns,)`.
        groups_a: Group of each row, `(rows,)`.
        groups_b: Group of each column, `(columns,)`.

    Example:
        >>> own, groups = limits(torch.eye(2), torch.eye(2), 0.5), torch.arange(2)
        >>> guide = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
        >>> FalseNegatives(torch.eye(2), guide, own, own, groups, groups).tile(slice(0, 2), slice(0, 2))[1]
        tensor([[False,  True],
                [False, False]])
    """

    def __init__(
        self, a: Tensor, b: Tensor, limits_a: Tensor, limits_b: Tensor, groups_a: Tensor, groups_b: Tensor
    ) -> None:
        self._a, self._b, self._limits, self._groups = a, b, (limits_a, limits_b), (groups_a, groups_b)
        self._dropped = torch.zeros(len(a), device=a.device)
        self._passes = torch.zeros(len(a), device=a.device)

    @property
    def fractions(self) -> Tensor:
        """Fraction of the columns that left each row's sum in the tiles so far, `(rows,)`."""
        return self._dropped / (self._passes * max(1, len(self._b))).clamp(min=1)

    @torch.no_grad()
    def tile(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Whether each pair of a tile leaves the sum of its row, and that of its column, `(rows, columns)` each."""
        scores = dot_products(self._a[rows], self._b[columns])
        negative = self._groups[0][rows, None] != self._groups[1][None, columns]
        of_rows = (scores > self._limits[0][rows, None]) & negative
        of_columns = (scores > self._limits[1][None, columns]) & negative
        self._dropped[rows] += of_rows.sum(1)
        self._passes[rows] += float(columns.start == 0)
        return of_rows, of_columns


def limits(a: Tensor, b: Tensor, margin: float = 0.0, relative_margin: float = 0.0) -> Tensor:
    """The guide's similarity of each pair, less the margins: negatives above it are false negatives.

    Args:
        a: Vectors of tower a by the guide, `(rows, dim)`.
        b: Those of tower b, row by row.
        margin: Absolute margin.
        relative_margin: Fraction of the absolute similarity.

    Returns:
        `(rows,)`.

    Raises:
        UserError: the shapes differ.

    Example:
        >>> limits(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), 0.1, 0.25)
        tensor([0.5000])
    """
    if a.shape != b.shape:
        raise UserError(f"guide: expected vectors of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    own = (a * b).sum(1)
    return own - margin - relative_margin * own.abs()
