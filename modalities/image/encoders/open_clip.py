"""The image tower of an open_clip model as an encoder."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.open_clip import build_tower, describe, embedded, open_clip_package
from modalities.image.transform import ImageTransform, Normalise


class OpenClipImage(Encoder):
    """The image tower of an open_clip model, its projection included.

    Args:
        transform: The fitted transform; by default it has the size, mean and standard deviation of the weights.
        model: open_clip's name (`ViT-B-32`), a JSON file, a folder with `open_clip_config.json`, or the configuration.
        pretrained: A tag of open_clip's, a local file (safetensors, or tensors only), or None = from scratch.

    Shape:
        `pixels (batch, 3, size, size)` uint8 -> vector `(batch, embed_dim)`; tokens are patches, or positions of
        the last feature map, before the projection.
    """

    def __init__(
        self, transform: ImageTransform, *, model: str | Mapping[str, Any], pretrained: str | None = None
    ) -> None:
        described = describe(model, pretrained, sealed=transform.sealed)
        super().__init__(int(described.model["embed_dim"]))
        self.description = embedded(described)
        transform.checked_size(_size(described.model))
        self.normalise = Normalise(transform)
        tower: Any
        tower, self._logits = build_tower(described, "visual")
        if hasattr(tower, "output_tokens"):
            tower.output_tokens = True
        self.tower = tower
        with torch.no_grad():  # towers do not report the width of their tokens
            size = transform.settings.size
            was = self.tower.training
            self.tower.eval()
            self.token_width = self._run(torch.zeros(1, 3, size, size))[1].shape[-1]
            self.tower.train(was)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["pixels"]`."""
        vector, tokens = self._run(self.normalise(inputs["pixels"]))
        return Features(vector, Tokens(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool)))

    def _run(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tower: Any = self.tower
        if hasattr(tower, "output_tokens"):  # open_clip's transformer
            vector, tokens = tower(pixels)
            return vector, tokens
        if hasattr(tower, "trunk"):  # a timm model with a projection
            features = tower.trunk.forward_features(pixels)
            vector = tower.head(tower.trunk.forward_head(features))
            if features.ndim == 3:
                return vector, features[:, getattr(tower.trunk, "num_prefix_tokens", 0) :]
            return vector, features.flatten(2).transpose(1, 2)
        grid = tower.stem(pixels)  # a residual network with an attention pool
        for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
            grid = layer(grid)
        return tower.attnpool(grid), grid.flatten(2).transpose(1, 2)

    def pretrained_logits(self) -> tuple[float, float | None]:
        """Scale and bias of the whole model's logits."""
        return self._logits

    def config(self) -> dict[str, Any]:
        """The model's description; weights are in the bundle."""
        return {"model": self.description}


def open_clip_settings(encoder_args: Mapping[str, Any]) -> dict[str, Any]:
    """The transform's settings that the tower was trained with."""
    described = describe(encoder_args.get("model"), encoder_args.get("pretrained"))
    clip = open_clip_package()
    preprocess = described.preprocess
    settings = {
        "size": _size(described.model),
        "mean": preprocess.get("mean") or clip.OPENAI_DATASET_MEAN,
        "std": preprocess.get("std") or clip.OPENAI_DATASET_STD,
        "interpolation": preprocess.get("interpolation") or "bicubic",
        "crop": {"shortest": "shortest", "squash": "squash", "longest": "pad"}[
            preprocess.get("resize_mode") or "shortest"
        ],
        "fill": preprocess.get("fill_color") or 0,
    }
    if settings["interpolation"] == "random":  # for training only; open_clip evaluates with bicubic
        settings["interpolation"] = "bicubic"
    return settings


def _size(model: Mapping[str, Any]) -> int:
    size = (model.get("vision_cfg") or {}).get("image_size", 224)
    return int(size if isinstance(size, int) else size[0])
