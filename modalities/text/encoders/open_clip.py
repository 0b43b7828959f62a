"""The text tower of an open_clip model as an encoder, and its tokenizer."""

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.hub import local_or_hub
from modalities.common.encoders.open_clip import Described, build_tower, describe, embedded
from modalities.text.phrases import phrase_tokens
from modalities.text.tokenizers.bpe import ClipTokenizer, JsonTokenizer, Tokenizer
from modalities.text.transform import TextTransform

DEFAULT_LENGTH = 77


class OpenClipText(Encoder):
    """The text tower of an open_clip model, its projection included.

    Args:
        transform: The transform with the model's tokenizer.
        model: open_clip's name (`ViT-B-32`), a JSON file, a folder with `open_clip_config.json`, or the configuration.
        pretrained: A tag of open_clip's, a local file (safetensors, or tensors only), or None = from scratch.
        phrases: Return phrases as parts.

    Shape:
        `tokens (batch, length)`, `mask (batch, length)` -> vector `(batch, embed_dim)`; tokens are the last layer's
        values, before the projection; parts are their means by `phrase` and `phrase_mask`.
    """

    def __init__(
        self,
        transform: TextTransform,
        *,
        model: str | Mapping[str, Any],
        pretrained: str | None = None,
        phrases: bool = False,
    ) -> None:
        described = describe(model, pretrained, sealed=transform.sealed)
        text = _text_config(described)
        transform.checked_length(_length(text))
        width = int(text.get("width", 512))
        parts = width if transform.checked_phrases(phrases) else None
        super().__init__(int(described.model["embed_dim"]), token_width=width, part_width=parts)
        self.arguments = {"model": embedded(described), "phrases": phrases}
        tower: Any
        tower, self._logits = build_tower(described, "text")
        if getattr(tower, "text_projection", None) is None:
            self.width = width
        tower.output_tokens = True
        self.tower = tower

    def token_table(self) -> nn.Embedding:
        """The embedding of token ids, before positions are added."""
        return self.tower.token_embedding  # type: ignore[no-any-return]

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["tokens"]`."""
        vector, tokens = self.tower(inputs["tokens"])
        parts = phrase_tokens(tokens, inputs) if self.part_width is not None else None
        return Features(vector, Tokens(tokens, inputs["mask"]), parts)

    def pretrained_logits(self) -> tuple[float, float | None]:
        """Scale and bias of the whole model's logits."""
        return self._logits

    def config(self) -> dict[str, Any]:
        """The arguments with the model's description; weights are in the bundle."""
        return dict(self.arguments)


def open_clip_tokenizer(encoder_args: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a model. One not included in open_clip is read from the hub or from the JSON's folder.

    Raises:
        UserError: the model's tokenizer is not available, or cannot be saved as JSON.
    """
    described = describe(encoder_args.get("model"), encoder_args.get("pretrained"))
    text = _text_config(described)
    length, extras = _length(text), dict(text.get("tokenizer_kwargs") or {})
    if text.get("tokenizer_mode") or set(extras) - {"clean", "strip_sep_token"}:
        raise UserError(f"this open_clip model has a tokenizer of a special kind ({extras}), which is not supported")
    if not text.get("hf_tokenizer_name"):
        return ClipTokenizer(length, extras.get("clean", "lower"))
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise registry.missing_extra("transformers", "text") from error
    source = str(described.folder or text["hf_tokenizer_name"])
    local = described.folder is not None
    with local_or_hub(source, local=local):
        loaded = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    return JsonTokenizer(
        json.loads(loaded.backend_tokenizer.to_str()),
        length,
        pad=loaded.pad_token_id or 0,
        clean=extras.get("clean", "whitespace"),
        blank=loaded.sep_token_id if extras.get("strip_sep_token") else None,
    )


def _text_config(described: Described) -> dict[str, Any]:
    text: dict[str, Any] = described.model["text_cfg"]
    if text.get("hf_model_name"):
        raise UserError(
            f"this open_clip model's text tower is {text['hf_model_name']!r} of Hugging Face; "
            "use encoder 'huggingface' with that model"
        )
    return text


def _length(text: Mapping[str, Any]) -> int:
    return int(text.get("context_length", DEFAULT_LENGTH))
