"""Inner tables of a result: one row per class, uncertainty estimate or data fraction; one column per metric."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mmalign.safe_io.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

Rows = Mapping[str, Mapping[str, Any]]


def inner_tables(scores: Mapping[str, Any]) -> Iterator["Table"]:
    """A table for the screen of each entry of the scores that is itself a table.

    Example:
        >>> [table.title for table in inner_tables({"n": 4, "classes": {"a": {"auroc": 0.5}}})]
        ['classes']
    """
    for name, rows in scores.items():
        if isinstance(rows, Mapping) and rows and all(isinstance(row, Mapping) for row in rows.values()):
            yield _table(name.replace("_", " "), rows)


def _table(title: str, rows: Rows) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    columns = dict.fromkeys(figure for row in rows.values() for figure in row if not figure.endswith("_ci"))
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, row in rows.items():
        table.add_row(escape(printable(name)), *(_cell(row.get(column), row.get(f"{column}_ci")) for column in columns))
    return table


def _cell(value: Any, interval: Any) -> str:
    if value is None or value != value:  # NaN: not defined here
        return ""
    shown = f"{value:.3f}" if isinstance(value, float) else str(value)
    # Two digits, because there are many columns.
    return f"{shown}\n[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else shown
