"""The configuration of a model in a file: the arguments of registered components, and the check of a saved model."""

from collections.abc import Mapping
from typing import Any

from mmalign import registry
from mmalign.configuration.arguments import Argument, arguments_of, takes_any
from mmalign.configuration.keys import check_configuration
from mmalign.errors import UserError
from mmalign.heads import CodebookConfig, GaussianConfig
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.towers import TowerConfig, modality_of, restore_tower

KEYS = {
    "dim": Argument("dim", int),
    "towers": Argument("towers", dict[str, TowerConfig]),
    "pairs": Argument("pairs", list[PairConfig]),
    # Bundles written before these existed have neither.
    "codebook": Argument("codebook", CodebookConfig, None),
    "gaussian": Argument("gaussian", GaussianConfig, None),
    # Only where `mmalign.fit_variance` set one.
    "variances": Argument("variances", dict[str, int], None),
}
"""What `Aligner.config` returns."""


def registered_arguments(kind: type, key: str, values: Mapping[str, Any], name: str) -> Mapping[str, Argument] | None:
    """The arguments in a recipe's dictionary `args`: those of a tower's encoder or of a pair's objective.

    Args:
        kind: Dataclass with the dictionary.
        key: Key of the dictionary.
        values: Values of the dataclass.
        name: Key of the dataclass, such as a tower's name.

    Returns:
        Name -> argument; None = unknown.
    """
    if key != "args":
        return None
    if kind is PairConfig:
        factory: Any = registry.load("objectives", values.get("objective") or "clip")
        skip = 0
    elif kind is TowerConfig and not (values.get("weights") and not values.get("encoder")):
        modality = modality_of(name, TowerConfig(modality=values.get("modality") or ""))
        encoder = values.get("encoder") or next(iter(modality.encoders))
        if encoder not in modality.encoders:
            return None  # building the model names the nearest one
        factory, skip = modality.encoders[encoder], 1  # mmalign passes the transform
    else:
        return None
    return None if takes_any(factory) else dict([*arguments_of(factory).items()][skip:])


def check_description(described: Any, where: object) -> dict[str, TowerConfig]:
    """Check a saved model's description, key by key, before anything is built from it.

    Args:
        described: `Aligner.config()`, from a file.
        where: The file, for messages.

    Returns:
        The towers.

    Raises:
        UserError: a key is missing or unknown, a value has another type or is no finite number, a tower's name is none,
            or a tower names pretrained weights.
    """
    if not isinstance(described, Mapping):
        raise UserError(f"{where} is not a bundle's configuration: expected a model, got {type(described).__name__}")
    for key, argument in KEYS.items():
        if key not in described and argument.required:
            raise UserError(f"{where} is not a bundle's configuration: expected model.{key}, got none")
    try:
        check_configuration(described, KEYS, lambda path: f"model.{'.'.join(path)}", registered_arguments, exactly=True)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    try:
        towers = {name: restore_tower(tower) for name, tower in described["towers"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where} is not a bundle's configuration: {error!r}") from error
    for name, tower in towers.items():
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"{where}: {name!r} cannot be a tower's name")
        if tower.args.get("pretrained"):  # weights come from this folder alone, never from a path or hub it names
            raise UserError(f"{where}: tower {name!r} sets pretrained weights; a bundle has its own")
    if described["dim"] < 1:
        raise UserError(f"{where}: expected model.dim to be at least 1, got {described['dim']}")
    return towers
