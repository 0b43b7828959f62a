"""The image tower of a dual encoder of transformers (CLIPModel, SiglipModel)."""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.dual_encoder import Logits, build_dual_tower, dual_config
from modalities.common.encoders.hf_models import model_folder
from modalities.common.reading.json_file import read_json
from modalities.image.transform import FILTERS, ImageTransform, Normalise


class HuggingFaceDualImage(Encoder):
    """The image tower of a CLIPModel or SiglipModel, its projection included.

    Args:
        transform: The fitted transform; by default it has the settings of the model's image processor.
        model: A local folder, a hub id, or the configuration itself (without weights).
        pretrained: Read the weights, from safetensors only.

    Shape:
        `pixels (batch, 3, size, size)` uint8 -> vector `(batch, width)` as `get_image_features` returns it; tokens are
        the patches of the last layer, before the projection.
    """

    def __init__(self, transform: ImageTransform, *, model: str | Mapping[str, Any], pretrained: bool = True) -> None:
        config = dual_config(model, pretrained=pretrained, sealed=transform.sealed)
        vision, clip = config["vision_config"], config["model_type"] == "clip"
        transform.checked_size(vision.get("image_size"))
        tower, self._logits = build_dual_tower(
            model if pretrained and isinstance(model, str) else None, config, "vision"
        )
        inner: Any = tower.config
        super().__init__(inner.projection_dim if clip else inner.hidden_size, token_width=inner.hidden_size)
        self.arguments = {"model": config, "pretrained": False}
        self.prefix = 1 if clip else 0  # class tokens
        self.normalise, self.tower = Normalise(transform), tower

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["pixels"]`."""
        output = self.tower(pixel_values=self.normalise(inputs["pixels"]))
        tokens = output.last_hidden_state[:, self.prefix :]
        vector = output.image_embeds if self.prefix else output.pooler_output
        return Features(vector, Tokens(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool)))

    def pretrained_logits(self) -> Logits | None:
        """Scale and bias of the whole model's logits."""
        return self._logits


def dual_image_settings(encoder_args: Mapping[str, Any]) -> dict[str, Any]:
    """The transform's settings of the model's image processor.

    Raises:
        UserError: the model has no image processor, or one with steps that are not supported.
    """
    model = encoder_args.get("model")
    if not isinstance(model, str):
        raise UserError("encoder 'huggingface_dual' needs a model: a local folder or a name of the hub")
    folder = model_folder(model)
    files = [folder / name for name in ("preprocessor_config.json", "processor_config.json")]
    found = next((read_json(file, most=1 << 20) for file in files if file.is_file()), None)
    if not isinstance(found, dict):
        raise UserError(f"{model} has no image processor: expected preprocessor_config.json")
    config = found.get("image_processor", found)
    try:
        return _settings(config)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{model} has an image processor that is not supported: {error!r}") from error


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    size = config["size"]
    shortest = size if isinstance(size, int) else size.get("shortest_edge")
    if config.get("do_center_crop") and shortest:
        crop = config["crop_size"]
        side = int(crop if isinstance(crop, int) else crop["height"])
        # A millionth of a pixel more, so that rounding down gives the size of the processor.
        shape: dict[str, Any] = {"size": side, "crop": "shortest", "crop_ratio": side / (int(shortest) + 1e-6)}
        shape |= {"crop_floor": True}
    else:
        shape = {"size": int(size if isinstance(size, int) else size["height"]), "crop": "squash"}
    names = {int(value): name for name, value in FILTERS.items()}
    mean, std = (
        ([0.0] * 3, [1.0] * 3) if config.get("do_normalize") is False else (config["image_mean"], config["image_std"])
    )
    return shape | {
        "mean": mean,
        "std": std,
        "interpolation": names[int(config.get("resample", Image.Resampling.BICUBIC))],
    }
