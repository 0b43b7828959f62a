"""The text tower of a dual encoder of transformers (CLIPModel, SiglipModel), and its tokenizer."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.dual_encoder import Logits, build_dual_tower, dual_config
from modalities.common.encoders.hf_models import fast_tokenizer
from modalities.text.phrases import phrase_tokens
from modalities.text.tokenizers.bpe import JsonTokenizer
from modalities.text.transform import TextTransform


class HuggingFaceDualText(Encoder):
    """The text tower of a CLIPModel or SiglipModel, its projection included.

    Args:
        transform: The transform with the model's tokenizer.
        model: A local folder, a hub id, or the configuration itself (without weights).
        pretrained: Read the weights, from safetensors only.
        phrases: Return phrases as parts.

    Shape:
        `tokens (batch, length)`, `mask (batch, length)` -> vector `(batch, width)` as `get_text_features` returns it;
        tokens are the last layer's values, before the projection; parts are their means by `phrase` and `phrase_mask`.
    """

    def __init__(
        self,
        transform: TextTransform,
        *,
        model: str | Mapping[str, Any],
        pretrained: bool = True,
        phrases: bool = False,
    ) -> None:
        config = dual_config(model, pretrained=pretrained, sealed=transform.sealed)
        clip = config["model_type"] == "clip"
        tower, self._logits = build_dual_tower(model if pretrained and isinstance(model, str) else None, config, "text")
        inner: Any = tower.config
        width = inner.projection_dim if clip else inner.projection_size
        parts = inner.hidden_size if transform.checked_phrases(phrases) else None
        super().__init__(width, token_width=inner.hidden_size, part_width=parts)
        self.arguments = {"model": config, "pretrained": False, "phrases": phrases}
        self.clip, self.tower = clip, tower

    def token_table(self) -> nn.Embedding:
        """The embedding of token ids, before positions are added."""
        tower: Any = self.tower
        return tower.get_input_embeddings()  # type: ignore[no-any-return]

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["tokens"]`; SigLIP was trained without a mask, on texts padded to their full length."""
        mask = {"attention_mask": inputs["mask"].long()} if self.clip else {}
        output = self.tower(input_ids=inputs["tokens"], **mask)
        vector, tokens = output.text_embeds if self.clip else output.pooler_output, output.last_hidden_state
        parts = phrase_tokens(tokens, inputs) if self.part_width is not None else None
        return Features(vector, Tokens(tokens, inputs["mask"]), parts)

    def pretrained_logits(self) -> Logits | None:
        """Scale and bias of the whole model's logits."""
        return self._logits


def dual_tokenizer(encoder_args: Mapping[str, Any]) -> tuple[JsonTokenizer, bool]:
    """The tokenizer of a model, and whether its texts are padded to their full length.

    Raises:
        UserError: the model is no dual encoder, or has no fast tokenizer.
    """
    model = encoder_args.get("model")
    config = dual_config(model, pretrained=True, sealed=False)
    tokenizer = fast_tokenizer(str(model))
    length = int(
        config["text_config"].get("max_position_embeddings") or {"clip": 77, "siglip": 64}[config["model_type"]]
    )
    return JsonTokenizer(tokenizer.description, length, pad=tokenizer.pad), config["model_type"] == "siglip"
