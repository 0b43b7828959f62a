"""A Hugging Face text model as an encoder, from a local folder or the hub, without remote code."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.transformer import masked_mean
from modalities.text.phrases import phrase_tokens
from modalities.text.tokenizers.bpe import JsonTokenizer
from modalities.text.transform import TextTransform

UNSAFE = (
    "auto_map", "attn_implementation", "experts_implementation", "quantization_config", "dtype", "torch_dtype",
    "backbone", "backbone_config", "use_pretrained_backbone", "use_timm_backbone",
)  # fmt: skip
"""Settings that refer to code, kernels, other models or number formats; removed from a text encoder's config."""

DEFAULT_LENGTH = 128


class HuggingFaceText(Encoder):
    """A text encoder of `transformers`; for an encoder-decoder model, its encoder.

    Args:
        transform: The transform with the model's tokenizer.
        model: A local folder, a hub id, or the configuration itself (without weights).
        pool: mean (over real tokens) or cls (the first token).
        pretrained: Read the weights, from safetensors only.
        phrases: Return phrases as parts.

    Shape:
        `tokens (batch, length)`, `mask (batch, length)` -> vector `(batch, width)`, tokens `(batch, length, width)`,
        and parts `(batch, phrases, width)` by `phrase` and `phrase_mask`.

    Raises:
        UserError: there is no such model, or its weights are not safetensors, or it needs remote code.
    """

    def __init__(
        self,
        transform: TextTransform,
        *,
        model: str | Mapping[str, Any],
        pool: str = "mean",
        pretrained: bool = True,
        phrases: bool = False,
    ) -> None:
        if pool not in ("mean", "cls"):
            raise UserError(f"huggingface text encoder: pool must be mean or cls, got {pool!r}")
        if transform.sealed and (pretrained or not isinstance(model, Mapping)):
            raise UserError("encoder 'huggingface': a bundle describes its model and brings the weights")
        transformers = _transformers()
        description = _clean(model if isinstance(model, Mapping) else _describe(transformers, model))
        built = _build(transformers, model, description, pretrained)
        width = int(built.config.hidden_size)
        super().__init__(width, token_width=width, part_width=width if transform.checked_phrases(phrases) else None)
        self.arguments = {"model": description, "pool": pool, "pretrained": False, "phrases": phrases}
        self.model = built

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["tokens"]` with the mask `inputs["mask"]`."""
        mask = inputs["mask"]
        values = self.model(input_ids=inputs["tokens"], attention_mask=mask.long()).last_hidden_state
        vector = masked_mean(values, mask) if self.arguments["pool"] == "mean" else values[:, 0]
        parts = phrase_tokens(values, inputs) if self.part_width is not None else None
        return Features(vector, Tokens(values, mask), parts)


def huggingface_tokenizer(encoder_args: Mapping[str, Any], max_length: int | None) -> JsonTokenizer:
    """The tokenizer of a model, truncated to `max_length` (None = the model's maximum, at most 128).

    Raises:
        UserError: the model has no fast tokenizer, or `max_length` is above its maximum.
    """
    transformers, name = _transformers(), encoder_args.get("model")
    if not isinstance(name, str):
        raise UserError("encoder 'huggingface' needs a model: a local folder or a hub id")
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(
            name, trust_remote_code=False, local_files_only=Path(name).is_dir()
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no tokenizer at {name}: {str(error).splitlines()[0]}") from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"{name} has no fast tokenizer (tokenizer.json), which is what a bundle can hold")
    positions = _describe(transformers, name).get("max_position_embeddings") or loaded.model_max_length
    longest = int(min(loaded.model_max_length, positions))
    if max_length is not None and max_length > longest:
        raise UserError(f"{name} takes texts of at most {longest} word pieces, max_length is {max_length}")
    return JsonTokenizer(
        json.loads(backend.to_str()),
        min(longest, DEFAULT_LENGTH) if max_length is None else max_length,
        pad=loaded.pad_token_id or 0,
    )


def _build(transformers: ModuleType, model: Any, description: dict[str, Any], pretrained: bool) -> Any:
    arguments = dict(description)
    try:
        kind = str(arguments.pop("model_type", ""))
        if kind.startswith("timm"):  # an image model, which would download itself
            raise UserError(f"{kind!r} is no text model")
        config = transformers.AutoConfig.for_model(kind, **arguments)
        if pretrained and isinstance(model, str):
            built, report = transformers.AutoModel.from_pretrained(
                model,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=Path(model).is_dir(),
                dtype=torch.float32,
                output_loading_info=True,
            )
            missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
            if missing:
                raise UserError(f"the weights of {model} lack {len(missing)} tensors, among them {missing[0]}")
        else:
            built = transformers.AutoModel.from_config(config, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # the loaders raise many types of errors
        raise UserError(f"cannot build the text model: {str(error).splitlines()[0][:300]}") from error
    if config.is_encoder_decoder:
        built = built.get_encoder()
    if getattr(built, "pooler", None) is not None:
        built.pooler = None  # belongs to another loss and would stay untrained
    return built


def _describe(transformers: ModuleType, name: str) -> dict[str, Any]:
    try:
        config = transformers.AutoConfig.from_pretrained(
            name, trust_remote_code=False, local_files_only=Path(name).is_dir()
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no Hugging Face model at {name}: {str(error).splitlines()[0]}") from error
    description: dict[str, Any] = _clean(config.to_dict())
    return description


def _clean(values: Any) -> Any:
    if isinstance(values, Mapping):
        safe = {k: v for k, v in values.items() if k not in UNSAFE and not str(k).startswith("_")}
        return {str(k): _clean(v) for k, v in safe.items() if k != "transformers_version"}
    return [_clean(value) for value in values] if isinstance(values, list | tuple) else values


def _transformers() -> ModuleType:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise registry.missing_extra("transformers", "text") from error
    return transformers
