"""Labels, targets and groups of items, and the split for choosing thresholds."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.errors import UserError
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.metrics.weighted import Bools, Floats, Ints, once
from mmalign.registry import nearest
from mmalign.safe_io.printable import printable

_LOG = logging.getLogger("mmalign")
_SEPARATOR = re.compile(r"\s*([;,|/+])\s*")
NAMED = 5  # labels that a message names

TUNING = ("validation", "train")  # splits for choosing thresholds: the first that is not evaluated


def labels_of(records: Sequence[Record], rows: Tensor, names: Sequence[str]) -> Bools:
    """Label indicators of each item, `(items, classes)`.

    Args:
        records: Records of the split.
        rows: Index of the record of each item, `(items,)`.
        names: Class names.
    """
    held = np.array([[name in record.labels for name in names] for record in records], dtype=np.bool_)
    return np.asarray(held.reshape(len(records), len(names))[rows.numpy()])


def labels_without_prompts(records: Sequence[Record], names: Sequence[str]) -> dict[str, int]:
    """Labels that no class names, each with the number of records that carry it; the most frequent label first.

    Such a label counts for no class: a record of no other label is a negative of every class. Logs a warning that
    proposes `--data.separator` where a label is several class names in one cell.

    Args:
        records: Records of the split.
        names: Class names.

    Example:
        >>> record = Record("1", "t.csv:2", {"image": ("a.png",)}, labels=("cat", "dog"))
        >>> labels_without_prompts([record], ["dog"])
        {'cat': 1}
    """
    known = set(names)
    counts = Counter(label for record in records for label in record.labels if label not in known)
    if not counts:
        return {}
    unknown = dict(counts.most_common())
    rows = sum(any(label in counts for label in record.labels) for record in records)
    shown = [f"{printable(label)} ({count})" for label, count in list(unknown.items())[:NAMED]]
    more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    hint = next((f"; {printable(label)} is several classes: --data.separator '{sign}'" for label in unknown
                 if (sign := _separator(label, names))), "")  # fmt: skip
    _LOG.warning(
        "no prompts for %d labels, which %d of %d rows carry and which count for no class: %s%s%s",
        len(unknown), rows, len(records), ", ".join(shown), more, hint,
    )  # fmt: skip
    return unknown


def _separator(label: str, names: Sequence[str]) -> str:
    signs = set(_SEPARATOR.findall(label))
    parts = {part for part in _SEPARATOR.sub("\0", label).split("\0") if part}
    return signs.pop() if len(signs) == 1 and len(parts) > 1 and parts <= set(names) else ""


def targets_of(records: Sequence[Record], rows: Tensor, name: str) -> Floats:
    """Target of each item, `(items,)`; NaN where it is unknown.

    Raises:
        UserError: no record has a number of that name.
    """
    known = sorted({key for record in records for key in record.targets})
    if name not in known:
        raise UserError(
            f"no record has a number called {name!r}{nearest(name, known) if known else ''}; a manifest names its "
            f"columns of numbers by --data.options.targets [{name}]"
        )
    values = np.array([record.targets.get(name, np.nan) for record in records], dtype=np.float64)
    return np.asarray(values[rows.numpy()])


def groups_of(records: Sequence[Record], rows: Tensor) -> Ints:
    """Resampling unit of each item: the record's group (a patient), or the record itself where it has none."""
    numbers: dict[tuple[str, Any], int] = {}
    keys = [("row", row) if record.group is None else ("group", record.group) for row, record in enumerate(records)]
    owners = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    return np.asarray(owners[rows.numpy()])


def tuning_split(data: Dataset, split: str, asked: str = "") -> str | None:
    """The split on which a threshold is chosen: never the evaluated one.

    Args:
        data: The data; the split is read.
        split: The evaluated split.
        asked: A split by name; "" = validation, or else train; none = no split.

    Raises:
        UserError: `asked` is the evaluated split, or has no record.
    """
    if asked == "none" or (split == "all" and not asked):
        return None
    if not asked:
        return next((name for name in TUNING if name != split and data.has(name)), None)
    if asked in (split, "all") or split == "all":
        raise UserError(f"--tune_split {asked}: expected a split other than the evaluated one ({split})")
    if not data.has(asked):
        raise UserError(f"--tune_split {asked}: no record of that split")
    return asked


def with_intervals(
    statistic: Any, names: Sequence[str], groups: Ints, *, resamples: int, seed: int
) -> Mapping[str, dict[str, Any]]:
    """Metrics by name, each with its interval as `<name>_ci`.

    Args:
        statistic: Weights `(draws, n)` -> metrics `(draws, len(names))`; NaN where a draw does not define one.
        names: Names of the metrics; `row/name` puts a metric into the table `row`, others into `""`.
        groups: Resampling unit of each row, `(n,)`.
        resamples: 0 = no intervals.
        seed: Seed of the draws.
    """
    values = statistic(once(len(groups)))[0]
    edges = boot.weighted(statistic, groups, resamples=resamples, seed=seed) if resamples else [[]] * len(names)
    tables: dict[str, dict[str, Any]] = {}
    for name, value, interval in zip(names, values, edges, strict=True):
        row, _, figure = name.rpartition("/")
        tables.setdefault(row, {})[figure] = float(value)
        if interval and not np.isnan(value):
            tables[row][f"{figure}_ci"] = interval
    return tables
