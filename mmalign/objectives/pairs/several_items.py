"""Check that the objectives of a model take the number of items per record that the data draw."""

from collections.abc import Collection, Mapping, Sequence

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.objective import MANY
from mmalign.objectives.pairs.pair_config import PairConfig


def check_draw(
    pairs: Sequence[PairConfig], draw: Mapping[str, int] | None, towers: Collection[str], *, guided: bool = False
) -> None:
    """Raise a `UserError` where an objective would get several items per row and takes one.

    Args:
        pairs: The terms of the model.
        draw: Tower -> number of items per record, as `data.draw`.
        towers: The towers of the model.
        guided: Whether a frozen guide compares the records, one item of each.

    Example:
        >>> check_draw([PairConfig("image", "text", "clip")], {"text": 3}, ["image", "text"])
    """
    for tower, number in (draw or {}).items():
        where = f"--data.draw.{tower}"
        if tower not in towers:
            raise UserError(f"{where}: the model has no such tower{registry.nearest(tower, towers)}")
        if number == 1:
            continue
        if guided:
            raise UserError(f"{where}: a guide compares one item per row; drop model.guide, or draw one item")
        for pair in pairs:
            name = f"pair {pair.a}-{pair.b}"
            if tower not in (pair.a, pair.b):
                continue
            if not getattr(registry.load("objectives", pair.objective), "many", False):
                raise UserError(
                    f"{where}: {name} has the objective {pair.objective!r}, which takes one item per row; objectives "
                    f"that take several: {MANY}"
                )
            if pair.a == tower:
                other = "draw several items of one tower only" if pair.b in (draw or {}) else "exchange a and b"
                if pair.a == pair.b:
                    other = "a tower paired with itself takes two views of one item"
                raise UserError(f"{where}: {name}: the tower with several items per row must be tower b; {other}")
