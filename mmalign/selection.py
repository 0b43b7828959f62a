"""What a user names to evaluate, embed, search or explain: a model, a pair of its towers, one tower."""

from collections.abc import Sequence
from pathlib import Path

from mmalign.bundles import bundle
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.registry import nearest


def model_of(model: Aligner | str | Path, device: str = "auto") -> Aligner:
    """A model as it is, or the model of a bundle or run.

    Args:
        model: A model, or the path of a bundle or run.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Raises:
        UserError: the path has no bundle, or the bundle cannot be loaded.
    """
    return model if isinstance(model, Aligner) else bundle.load(model, device=device)


def pair_of(model: Aligner, names: Sequence[str]) -> tuple[str, str]:
    """Two towers of a model: the named ones, or the only pair that the model was trained on.

    Raises:
        UserError: the model has several pairs and none is named, or a name is not a tower.
    """
    if not names and len({(pair.a, pair.b) for pair in model.pairs}) == 1:
        return model.pairs[0].a, model.pairs[0].b
    if len(names) != 2:
        known = ", ".join(f"{pair.a} {pair.b}" for pair in model.pairs)
        raise UserError(f"--pair: expected two towers, got {list(names)}; this model was trained on: {known}")
    for name in names:
        require_tower(model, name)
    return names[0], names[1]


def require_tower(model: Aligner, tower: str) -> None:
    """Raise a `UserError` that names the nearest tower if the model has none of this name."""
    if tower not in model.encoders:
        raise UserError(f"no tower called {tower!r}{nearest(tower, model.towers)}")
