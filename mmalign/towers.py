"""Configuration of one tower: modality, encoder, transform, freezing."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from functools import cache
from typing import Any

from torch import nn

from mmalign import registry
from mmalign.capabilities import StrictReading, capability
from mmalign.errors import UserError
from mmalign.lora import LoraConfig
from mmalign.modality import Encoder, Modality, Transform


@dataclass
class TowerConfig:
    """One tower of the model.

    Args:
        modality: Registered name; "" = the tower's own name.
        reject_warnings: Reject samples that would raise a data-quality warning (ecg, echo), such as leads or units that
            look wrong; the rows are listed in `rejected.jsonl`. The saved model rejects them too.
        encoder: Name of one of the modality's encoders; "" = its default.
        args: The encoder's arguments.
        transform: The transform's settings; they override those that the encoder requires.
        weights: Warm start: bundle or run to load encoder weights and preprocessing from. `args` and `transform` given
            here override the loaded ones.
        head: Projection into the shared space: linear, affine (with a bias), mlp, identity, or identity_init (linear,
            starting as the identity, to train a projection of a pretrained space).
        uncertainty: Pooling of this tower's log-variance head; default: the model's `gaussian.pool`.
        reduce: Token reducer: number of tokens to which the tower's tokens are reduced by learnt attention maps, before
            an objective reads them (transport, late_interaction, fdt, local); 0 = all tokens.
        group_whitening: Shuffled group whitening before the head in training (WhitenedCSE): number of random groups of
            channels within which the vectors of the global batch are decorrelated; must divide the encoder's width.
            0 = none.
        freeze: Freeze the encoder: no gradient, no optimiser state, always in eval mode (LiT).
        trainable: Parameter names (shell patterns, such as `blocks.11.*`) that stay trainable in a frozen encoder.
        unfreeze_epoch: Epoch (0-based) from which a frozen encoder is trained; null = never. One process only: DDP
            fixes its list of parameters at the start.
        lora: Low-rank adapters of this encoder, the only weights of it that are trained: `{rank: 8, alpha: 16}`; null =
            none. Needs peft. The saved model has them merged into its weights.
        lr_scale: Factor of the learning rate for this encoder.
        chunk: Gradient caching for large batches: rows per forward pass in training; null = the whole batch. Each chunk
            runs twice, with the memory of one chunk and the gradient of the whole batch.
    """

    modality: str = ""
    reject_warnings: bool = False
    encoder: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    head: str = "linear"
    uncertainty: str = ""
    reduce: int = 0
    group_whitening: int = 0
    freeze: bool = False
    trainable: list[str] = field(default_factory=list)
    unfreeze_epoch: int | None = None
    lora: LoraConfig | None = None
    lr_scale: float = 1.0
    chunk: int | None = None


def modality_of(name: str, tower: TowerConfig) -> Modality:
    """The modality of a tower, by its registered name; in strict mode if the tower rejects warnings.

    Raises:
        UserError: there is no such modality, or it cannot be loaded.
    """
    try:
        modality = registry.load("modalities", tower.modality or name)
    except UserError as error:
        raise UserError(f"tower {name!r}: {error}") from error
    if not isinstance(modality, Modality):
        raise UserError(f"modality {tower.modality or name!r} is a {type(modality).__name__}, not a Modality")
    return _strict(modality) if tower.reject_warnings else modality


@cache  # so that one name gives one object, as without
def _strict(modality: Modality) -> Modality:
    return capability(modality, StrictReading, "reject_warnings").with_strict_reading()


def new_transform(name: str, tower: TowerConfig) -> Transform:
    """A tower's transform before it is fitted."""
    return modality_of(name, tower).transform(tower.encoder, tower.args, **tower.transform)


def fit_transforms(
    towers: Mapping[str, TowerConfig],
    samples: Mapping[str, Iterable[Any]],
    features: Callable[[str, Transform], Iterable[Any]] | None = None,
    fitted: Mapping[str, Transform] | None = None,
    unfitted: Mapping[str, Transform] | None = None,
) -> dict[str, Transform]:
    """Create each tower's transform and fit it on its training samples.

    Args:
        towers: Name -> configuration.
        samples: Name -> its training samples.
        features: Returns the (cached) features of a tower's training samples under its transform; None = compute them.
        fitted: Name -> an already fitted transform, used unchanged.
        unfitted: Name -> its transform, which is fitted; others are created.
    """
    transforms = dict(fitted or {})
    for name, tower in towers.items():
        if name not in transforms:
            transforms[name] = (unfitted or {}).get(name) or new_transform(name, tower)
            _fit(name, transforms[name], samples[name], features)
    return {name: transforms[name] for name in towers}


def _fit(
    name: str,
    transform: Transform,
    samples: Iterable[Any],
    features: Callable[[str, Transform], Iterable[Any]] | None,
) -> None:
    if transform.fit_before_featurise:
        transform.fit(samples)
    else:
        transform.fit(map(transform.featurise, samples) if features is None else features(name, transform))


def freeze_encoder(name: str, tower: TowerConfig, encoder: nn.Module, epoch: int) -> bool:
    """Set `requires_grad` of an encoder's parameters for an epoch, as its tower is configured.

    Args:
        name: Name of the tower.
        tower: Its configuration, with `freeze`.
        encoder: The encoder.
        epoch: 0-based.

    Returns:
        Whether the encoder is frozen in this epoch; its `trainable` parameters are trained regardless.

    Raises:
        UserError: a pattern of `trainable` matches no parameter, or the tower has LoRA adapters.
    """
    if tower.lora is not None:
        raise UserError(f"towers.{name}: lora freezes the encoder's own weights; leave freeze out")
    thawed = tower.unfreeze_epoch is not None and epoch >= tower.unfreeze_epoch
    matched = set()
    for key, parameter in encoder.named_parameters():
        hits = [pattern for pattern in tower.trainable if fnmatch(key, pattern)]
        matched.update(hits)
        parameter.requires_grad_(thawed or bool(hits))
    if unused := set(tower.trainable) - matched:
        raise UserError(
            f"towers.{name}.trainable: no parameter matches {sorted(unused)}; parameters are called, for "
            f"instance, {', '.join(key for key, _ in list(encoder.named_parameters())[-3:])}"
        )
    return not thawed


def identity_width(towers: Mapping[str, TowerConfig], encoders: Mapping[str, Encoder]) -> int:
    """The size of the shared space where the recipe leaves it out: the width of the encoders with head identity.

    Raises:
        UserError: there is no such tower, or their widths differ.
    """
    widths = {name: encoders[name].width for name, t in towers.items() if t.head in ("identity", "identity_init")}
    if len(set(widths.values())) != 1:
        listed = ", ".join(f"{name} {width}" for name, width in widths.items()) or "no such tower"
        raise UserError(f"model.dim: null needs encoders of one width with head identity, got {listed}; set a number")
    return next(iter(widths.values()))


def describe_towers(
    towers: Mapping[str, TowerConfig],
    encoders: Mapping[str, nn.Module] | nn.ModuleDict,
    modalities: Mapping[str, Modality],
    adapted: Collection[str],
) -> dict[str, Any]:
    """`describe_tower` of each tower; `adapted` are those whose LoRA adapters are not yet merged."""
    return {
        name: describe_tower(name, tower, encoders[name], modalities[name], adapted=name in adapted)
        for name, tower in towers.items()
    }


def describe_tower(
    name: str, tower: TowerConfig, encoder: nn.Module, modality: Modality, *, adapted: bool
) -> dict[str, Any]:
    """What rebuilds a tower without network, data or pretrained weights, as JSON values for `TowerConfig`."""
    assert isinstance(encoder, Encoder)
    described = {
        "modality": tower.modality or name,
        "reject_warnings": tower.reject_warnings,
        "encoder": tower.encoder or next(iter(modality.encoders)),
        "args": encoder.config(),
        "head": tower.head,
        "uncertainty": tower.uncertainty,
        "reduce": tower.reduce,
        "group_whitening": tower.group_whitening,
    }
    return described | ({"lora": asdict(tower.lora)} if adapted and tower.lora is not None else {})


def restore_tower(described: Mapping[str, Any]) -> TowerConfig:
    """From the output of `describe_tower`."""
    lora = described.get("lora")
    return TowerConfig(**{**described, "lora": None if lora is None else LoraConfig(**lora)})
