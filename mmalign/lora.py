"""LoRA: low-rank updates of the layers of an encoder, by the library peft."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmalign import registry
from mmalign.errors import UserError

ADAPTER = "lora_"
"""Prefix of the names of adapters within their layer, as peft names them."""

ATTENTION_WEIGHT = "in_proj_weight"
"""The projection to query, key and value of torch's `MultiheadAttention`; a parameter, not a layer."""


@dataclass
class LoraConfig:
    """Low-rank adapters: a layer computes `W + alpha / rank * B A`; only A and B are trained (LoRA, arXiv 2106.09685).

    Args:
        rank: Rank of each update.
        alpha: Scale of the updates, which are multiplied by `alpha / rank`.
        dropout: Dropout probability of the adapters' inputs; 0 for encoders with torch's `MultiheadAttention`.
        targets: Names of the adapted layers (shell patterns, such as `*.mlp.*`); empty = all linear layers, and query,
            key and value of torch's `MultiheadAttention`.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: list[str] = field(default_factory=list)


def add_lora(name: str, config: LoraConfig, encoder: nn.Module) -> bool:
    """Add adapters to an encoder, in place, and freeze everything else. Its output does not change: B starts at 0.

    Args:
        name: Name of the tower, for messages.
        config: Rank, scale, dropout and layers.
        encoder: The encoder.

    Returns:
        True: the encoder has adapters.

    Raises:
        UserError: a setting is out of range, a pattern matches no layer, or peft is not installed.
    """
    where = f"towers.{name}.lora"
    if config.rank < 1 or config.alpha <= 0 or not 0 <= config.dropout < 1:
        raise UserError(
            f"{where}: expected rank >= 1, alpha > 0 and dropout in 0..1, got rank {config.rank}, alpha "
            f"{config.alpha:g}, dropout {config.dropout:g}"
        )
    layers, weights = _targets(where, config, encoder)
    if weights and config.dropout:
        raise UserError(
            f"{where}.dropout: expected 0, because {weights[0].removesuffix('.' + ATTENTION_WEIGHT)} is torch's "
            f"MultiheadAttention; or name other layers by {where}.targets"
        )
    peft = _peft()
    exact = "|".join(map(re.escape, layers)) or "(?!)"  # (?!) matches nothing; peft matches whole names
    peft.inject_adapter_in_model(
        peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=exact,
            target_parameters=weights or None,
        ),
        encoder,
    )
    for _, layer in _adapted(encoder):
        # peft registers such a weight again in each forward pass, as the last one: weight averaging needs one order.
        if weight := getattr(layer, "parameter_name", ""):
            owner = layer.get_base_layer()
            owner.register_parameter(weight, owner._parameters.pop(weight))
    for key, parameter in encoder.named_parameters():
        parameter.requires_grad_(_is_adapter(key))
    return True


def merged_state(encoder: nn.Module) -> dict[str, Tensor]:
    """The encoder's state with the updates added to the weights, under the names that it had before `add_lora`."""
    deltas: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, layer in _adapted(encoder):
            weight = getattr(layer, "parameter_name", "weight")
            deltas[_plain(f"{name}.{weight}")] = layer.get_delta_weight(layer.active_adapters[0])
    state = {_plain(key): value for key, value in encoder.state_dict().items() if not _is_adapter(key)}
    return {key: value + deltas[key].to(value) if key in deltas else value for key, value in state.items()}


def keep_statistics(encoder: nn.Module) -> None:
    """Put batch normalisation in eval mode: its statistics belong to the frozen weights."""
    for module in encoder.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def layers_without_gradient(encoder: nn.Module) -> tuple[list[str], int]:
    """After a backward pass: the adapted layers that no gradient reached, and the number of adapted layers.

    Some encoders read the weight of a layer instead of calling the layer, so that its adapters have no effect.
    """
    layers = list(_adapted(encoder))
    return [
        _plain(name)
        for name, layer in layers
        if all(value.grad is None for key, value in layer.named_parameters(recurse=True) if key.startswith(ADAPTER))
    ], len(layers)


def _targets(where: str, config: LoraConfig, encoder: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the layers, and of attention weights, that get adapters."""
    attention = {name for name, module in encoder.named_modules() if isinstance(module, nn.MultiheadAttention)}
    linear, others = [], []
    for name, module in encoder.named_modules():
        if name.rpartition(".")[0] in attention:
            continue  # its forward is never called
        if isinstance(module, nn.Linear):
            linear.append(name)
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding):
            others.append(name)
    known = [*linear, *attention, *others]
    if not config.targets:
        chosen = {*linear, *attention}
        if not chosen:
            raise UserError(
                f"{where}: the encoder has no linear layer; name layers by targets, for instance {others[:2]}"
            )
    else:
        chosen = set()
        for pattern in config.targets:
            hits = {name for name in known if fnmatch(name, pattern)}
            if not hits:
                near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.3) or known[:3]
                raise UserError(f"{where}.targets: no layer matches {pattern!r}; near: {', '.join(near) or 'none'}")
            chosen |= hits
    separate = sorted(
        name for name in chosen & attention if getattr(encoder.get_submodule(name), ATTENTION_WEIGHT) is None
    )
    if separate:
        raise UserError(f"{where}.targets: {separate[0]} has separate weights for query, key and value; leave it out")
    return sorted(chosen - attention), sorted(f"{name}.{ATTENTION_WEIGHT}" for name in chosen & attention)


def _adapted(encoder: nn.Module) -> Iterator[tuple[str, Any]]:
    layer = _peft().tuners.lora.LoraLayer
    return ((name, module) for name, module in encoder.named_modules() if isinstance(module, layer))


def _is_adapter(key: str) -> bool:
    return any(part.startswith(ADAPTER) for part in key.split("."))


def _plain(key: str) -> str:
    return ".".join(part for part in key.split(".") if part != "base_layer")


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise registry.missing_extra("peft", "lora") from error
    return peft
