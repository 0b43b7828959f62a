"""Two views of each sample, for pairs of a tower with itself: check of the settings, warning if they are equal."""

import logging
from collections.abc import Collection, Mapping, Sequence

import torch

from mmalign import distributed, registry
from mmalign.errors import UserError
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Batch, Embedding

_LOG = logging.getLogger("mmalign")


def check_views(pairs: Sequence[PairConfig], views: Mapping[str, str] | None, towers: Collection[str]) -> None:
    """Raise a `UserError` for second views of a tower that no pair joins with itself.

    Args:
        pairs: The terms of the model.
        views: Tower -> how its second views are made, as `data.views`.
        towers: The towers of the model.

    Example:
        >>> check_views([PairConfig("text", "text", "clip")], {"text": "augmentation"}, ["text"])
    """
    for tower in views or {}:
        where = f"--data.views.{tower}"
        if tower not in towers:
            raise UserError(f"{where}: the model has no such tower{registry.nearest(tower, towers)}")
        if not any(pair.a == pair.b == tower for pair in pairs):
            raise UserError(
                f"{where}: no pair compares two views of {tower!r}; add {{a: {tower}, b: {tower}, objective: clip}}"
            )


class SelfPairs:
    """The towers that a pair joins with themselves.

    Args:
        pairs: The terms of the model.

    Attributes:
        towers: Their names, in the order of the pairs.
    """

    def __init__(self, pairs: PairSum) -> None:
        terms = list(zip(pairs.pairs, pairs.objectives, strict=True))
        self.towers = list(dict.fromkeys(pair.a for pair, _ in terms if pair.a == pair.b))
        self._uncompared = {
            pair.a
            for pair, objective in terms
            if pair.a == pair.b and isinstance(objective, Objective) and objective.two_views
        }

    def run_twice(self, batch: Batch, *, training: bool) -> list[str]:
        """The towers that are embedded twice: in training all, otherwise those whose second view is another item."""
        return [tower for tower in self.towers if training or tower in batch.again]

    def warn_if_equal(self, first: Mapping[str, Embedding], second: Mapping[str, Embedding]) -> None:
        """Warn, at the first batch with samples, of two views that are equal: there is no difference to learn from."""
        for tower in sorted(self._uncompared & second.keys()):
            if not len(first[tower]):
                continue
            self._uncompared.discard(tower)
            if torch.equal(first[tower].vector, second[tower].vector) and distributed.is_first():
                _LOG.warning(
                    "the two views of %s are equal, and no objective can learn from their difference: set dropout in "
                    "towers.%s.args, or --data.views.%s augmentation with an augmentation in towers.%s.transform",
                    *[tower] * 4,
                )
