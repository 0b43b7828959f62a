"""A timm model as an encoder."""

import difflib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mmalign import registry
from mmalign.errors import UserError, first_line
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.hub import hub
from modalities.common.encoders.safe_weights import read_weights
from modalities.image.transform import ImageTransform, Normalise


class TimmImage(Encoder):
    """A timm model without its classifier.

    Args:
        transform: The fitted transform; by default it has the size, mean and standard deviation of the weights.
        model: A timm name, with or without a tag: `resnet10t`, `vit_tiny_patch16_224.augreg_in21k`.
        pretrained: True = timm's weights (downloaded once), a path = weights from that file, False = from scratch.
        args: Further arguments of the model, such as `{img_size: 64}`.
        token_weights: Return the class token's attention in the last layer as weights of the tokens, for vision
            transformers with a class token.

    Shape:
        `pixels (batch, 3, size, size)` uint8 -> vector `(batch, width)` as timm pools it; tokens are the model's last
        features, patches or positions of the last feature map, without class and register tokens.

    Raises:
        UserError: timm has no such model or weights, or they do not fit.
    """

    def __init__(
        self,
        transform: ImageTransform,
        *,
        model: str,
        pretrained: bool | str = False,
        args: Mapping[str, Any] | None = None,
        token_weights: bool = False,
    ) -> None:
        if transform.sealed and pretrained:
            raise UserError(f"timm model {model!r}: a bundle brings its own weights, it cannot name others")
        built = _build(_timm(), model, pretrained, dict(args or {}))
        super().__init__(built.num_features, token_width=built.num_features)
        self.arguments = {"model": model, "pretrained": False, "args": dict(args or {})}
        self.arguments |= {"token_weights": True} if token_weights else {}
        self.token_weights = token_weights
        if token_weights and not (
            getattr(built, "cls_token", None) is not None and hasattr(built.blocks[-1].attn, "qkv")
        ):
            raise UserError(f"timm model {model!r} has no class token in its last layer, so no token_weights")
        self.normalise = Normalise(transform)
        self.model = built
        with torch.no_grad():  # a forward pass of a black image reveals sizes that timm does not report
            probe = torch.zeros(1, 3, transform.settings.size, transform.settings.size)
            was = built.training
            try:
                features = built.eval().forward_features(probe)
                self.width = built.forward_head(features).shape[1]
            except (AssertionError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"timm model {model!r} does not take pictures of size {transform.settings.size} "
                    f"({first_line(error)}); set the transform's size, or args such as {{img_size: ...}}"
                ) from error
            built.train(was)
            self.channels_last = features.ndim == 4 and features.shape[1] != built.num_features
            self.token_width = features.shape[-1 if features.ndim == 3 or self.channels_last else 1]

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["pixels"]`."""
        pixels = self.normalise(inputs["pixels"])
        seen: list[Tensor] = []
        if self.token_weights:
            attention = self.model.blocks[-1].attn
            hook = attention.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
            try:
                features = self.model.forward_features(pixels)
            finally:
                hook.remove()
        else:
            features = self.model.forward_features(pixels)
        tokens = self._tokens(features)
        mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        weight = self._class_attention(seen[0]) if seen else None
        return Features(self.model.forward_head(features), Tokens(tokens, mask, weight))

    @torch.no_grad()
    def _class_attention(self, values: Tensor) -> Tensor:
        """Attention of the class token to each patch in the last layer, mean over heads."""
        attention = self.model.blocks[-1].attn
        q, k, _ = attention.qkv(values).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = attention.q_norm(q[:, :, :1]), attention.k_norm(k)
        weights: Tensor = (q @ k.mT * attention.scale).float().softmax(3).mean(1)[:, 0]
        return weights[:, self.model.num_prefix_tokens :]

    def _tokens(self, features: Tensor) -> Tensor:
        if features.ndim == 3:
            return features[:, getattr(self.model, "num_prefix_tokens", 0) :]
        if self.channels_last:
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)


def timm_settings(encoder_args: Mapping[str, Any]) -> dict[str, Any]:
    """The transform's settings that a timm model was trained with.

    Raises:
        UserError: no model is given, or timm has no such model.
    """
    timm = _timm()
    name = _known(timm, encoder_args.get("model"))
    published = timm.get_pretrained_cfg(name)
    settings: dict[str, Any] = {"crop": "shortest"}
    if published is not None:
        settings |= {
            "size": published.input_size[-1],
            "mean": published.mean,
            "std": published.std,
            "interpolation": published.interpolation,
            "crop_ratio": published.crop_pct,
        }
        if published.crop_mode in ("squash", "border"):
            settings["crop"] = {"squash": "squash", "border": "pad"}[published.crop_mode]
    size = (encoder_args.get("args") or {}).get("img_size")
    return settings | ({"size": size} if size else {})


def _build(timm: ModuleType, model: str, pretrained: bool | str, args: dict[str, Any]) -> Any:
    _known(timm, model)
    overlay: dict[str, Any] | None = None
    names: set[str] = set()
    if isinstance(pretrained, str | Path):
        state = read_weights(pretrained)
        overlay, names = {"state_dict": state}, set(state)
    try:
        with hub(model) if pretrained is True else nullcontext():
            built = timm.create_model(
                model, pretrained=bool(pretrained), num_classes=0, pretrained_cfg_overlay=overlay, **args
            )
    except (RuntimeError, TypeError, ValueError, KeyError, OSError) as error:
        raise UserError(f"timm cannot build {model!r} with {args}: {first_line(error)}") from error
    if overlay is not None:  # timm adapts sizes, and does not report missing tensors
        lacking = [name for name, _ in built.named_parameters() if name not in names]
        if lacking:
            raise UserError(f"the weights in {pretrained} lack {len(lacking)} tensors of {model}, such as {lacking[0]}")
    return built


def _known(timm: ModuleType, model: Any) -> str:
    if not isinstance(model, str):
        raise UserError("encoder 'timm' needs the name of a model, for instance args: {model: resnet10t}")
    # timm would load names with a scheme from elsewhere, folders included.
    if ":" in model or "/" in model or not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=3)
        raise UserError(f"timm has no model {model!r}; near: {', '.join(close) or 'none, see timm.list_models()'}")
    return model


def _timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise registry.missing_extra("timm", "image") from error
    return timm
