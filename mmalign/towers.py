"""Configuration of one tower: modality, encoder, transform, freezing."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from typing import Any

from torch import nn

from mmalign import registry
from mmalign.capabilities import StrictReading, capability
from mmalign.errors import UserError
from mmalign.modality import Modality, Transform


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
        head: Projection into the shared space: linear, mlp or identity.
        uncertainty: Pooling of this tower's log-variance head; default: the model's `gaussian.pool`.
        freeze: Freeze the encoder: no gradient, no optimiser state, always in eval mode (LiT).
        trainable: Parameter names (shell patterns, such as `blocks.11.*`) that stay trainable in a frozen encoder.
        unfreeze_epoch: Epoch (0-based) from which a frozen encoder is trained; null = never. One process only: DDP
            fixes its list of parameters at the start.
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
    freeze: bool = False
    trainable: list[str] = field(default_factory=list)
    unfreeze_epoch: int | None = None
    lr_scale: float = 1.0
    chunk: int | None = None


def modality_of(name: str, tower: TowerConfig) -> Modality:
    """The modality of a tower, by its registered name; in strict mode if the tower rejects warnings."""
    modality = registry.load("modalities", tower.modality or name)
    if not isinstance(modality, Modality):
        raise UserError(f"modality {tower.modality or name!r} is a {type(modality).__name__}, not a Modality")
    return _strict(modality) if tower.reject_warnings else modality


@cache  # so that one name gives one object, as without
def _strict(modality: Modality) -> Modality:
    return capability(modality, StrictReading, "reject_warnings").with_strict_reading()


def fit_transforms(
    towers: Mapping[str, TowerConfig],
    samples: Mapping[str, Iterable[Any]],
    features: Callable[[str, Transform], Iterable[Any]] | None = None,
    fitted: Mapping[str, Transform] | None = None,
) -> dict[str, Transform]:
    """Create each tower's transform and fit it on its training samples.

    Args:
        towers: Name -> configuration.
        samples: Name -> its training samples.
        features: Returns the (cached) features of a tower's training samples under its transform; None = compute them.
        fitted: Name -> an already fitted transform, used unchanged.
    """
    transforms = dict(fitted or {})
    for name, tower in towers.items():
        if name not in transforms:
            transforms[name] = modality_of(name, tower).transform(tower.encoder, tower.args, **tower.transform)
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
        UserError: a pattern of `trainable` matches no parameter.
    """
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
