"""Dual encoders of transformers (CLIPModel, SiglipModel): configuration, weights of one tower, scale and bias."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from mmalign.errors import UserError, first_line
from modalities.common.encoders.hf_models import (
    clean_config,
    load_model,
    model_config,
    model_folder,
    transformers_package,
)

KINDS = {
    "clip": {"vision": "CLIPVisionModelWithProjection", "text": "CLIPTextModelWithProjection"},
    "siglip": {"vision": "SiglipVisionModel", "text": "SiglipTextModel"},
}
"""Type of the model -> the class of each tower, its projection included."""

Logits = tuple[float, float | None]
"""Scale and bias (None = none) of a model's logits."""


def dual_config(model: Any, *, pretrained: bool, sealed: bool) -> dict[str, Any]:
    """The configuration of a dual encoder as JSON values.

    Args:
        model: A local folder, a name of the hub, or the configuration itself.
        pretrained: Whether weights are asked for.
        sealed: The arguments come from a bundle: only a configuration is accepted.

    Raises:
        UserError: there is no such model, or it is no dual encoder.
    """
    if sealed and (pretrained or not isinstance(model, Mapping)):
        raise UserError("encoder 'huggingface_dual': a bundle describes its model and brings the weights")
    if not isinstance(model, str | Mapping):
        raise UserError("encoder 'huggingface_dual' needs a model: a local folder or a name of the hub")
    config: dict[str, Any] = model_config(model) if isinstance(model, str) else clean_config(model)
    if config.get("model_type") not in KINDS or not {"text_config", "vision_config"} <= config.keys():
        named = model if isinstance(model, str) else "the description"
        raise UserError(
            f"{named} is of type {config.get('model_type')!r}, expected {' or '.join(KINDS)}; use encoder "
            "'huggingface' for text models, 'timm' for image models"
        )
    return config


def build_dual_tower(model: Any, config: Mapping[str, Any], side: str) -> tuple[nn.Module, Logits | None]:
    """Build the tower `vision` or `text` of a dual encoder.

    Args:
        model: Folder or name of the hub with the weights; None = random weights.
        config: Output of `dual_config`.
        side: vision or text.

    Returns:
        The tower, and scale and bias of the model's logits; None without weights.

    Raises:
        UserError: transformers rejects the configuration, or the weights do not fit.
    """
    transformers, arguments = transformers_package(), dict(config)
    name = str(arguments.pop("model_type"))
    kind = getattr(transformers, KINDS[name][side])
    try:
        whole = transformers.AutoConfig.for_model(name, **arguments)
        inner = getattr(whole, f"{side}_config")
        if name == "clip":
            inner.projection_dim = whole.projection_dim  # the value that the whole model uses
        if model is None:
            return kind(inner), None
        return load_model(kind, model, inner, optional=("logit_",)), _logits(model_folder(model))
    except UserError:
        raise
    except Exception as error:  # the loaders raise many types of errors
        raise UserError(f"cannot build the {side} tower: {first_line(error)}") from error


def _logits(folder: Path) -> Logits | None:
    values: dict[str, float] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in {"logit_scale", "logit_bias"} & set(tensors.keys()):
                    values[key] = float(tensors.get_tensor(key).float())
        except SafetensorError as error:
            raise UserError(f"cannot read {file}: {error}") from error
    return (math.exp(values["logit_scale"]), values.get("logit_bias")) if "logit_scale" in values else None
