"""A Hugging Face text model as an encoder, from a local folder or the hub, without remote code."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmalign.errors import UserError, first_line
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.hf_models import (
    clean_config,
    fast_tokenizer,
    load_model,
    model_config,
    transformers_package,
)
from modalities.common.encoders.transformer import masked_mean
from modalities.text.phrases import phrase_tokens
from modalities.text.tokenizers.bpe import JsonTokenizer
from modalities.text.transform import TextTransform

DEFAULT_LENGTH = 128


class HuggingFaceText(Encoder):
    """A text encoder of `transformers`; for an encoder-decoder model, its encoder.

    Args:
        transform: The transform with the model's tokenizer.
        model: A local folder, a hub id, or the configuration itself (without weights).
        pool: mean (over real tokens) or cls (the first token).
        pretrained: Read the weights, from safetensors only.
        phrases: Return phrases as parts.
        token_weights: Return the first token's attention in the last layer as weights of the tokens.

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
        token_weights: bool = False,
    ) -> None:
        if pool not in ("mean", "cls"):
            raise UserError(f"huggingface text encoder: pool must be mean or cls, got {pool!r}")
        if transform.sealed and (pretrained or not isinstance(model, Mapping)):
            raise UserError("encoder 'huggingface': a bundle describes its model and brings the weights")
        description = clean_config(model if isinstance(model, Mapping) else model_config(model))
        built = build_text_model(model if pretrained and isinstance(model, str) else None, description)
        width = int(built.config.hidden_size)
        super().__init__(width, token_width=width, part_width=width if transform.checked_phrases(phrases) else None)
        self.arguments = {"model": description, "pool": pool, "pretrained": False, "phrases": phrases}
        self.arguments |= {"token_weights": True} if token_weights else {}
        self.model, self.token_weights = built, token_weights
        if token_weights:
            built.set_attn_implementation("eager")  # fused kernels compute no attention weights

    def token_table(self) -> nn.Embedding:
        """The embedding of token ids, before positions are added."""
        return self.model.get_input_embeddings()  # type: ignore[no-any-return]

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["tokens"]` with the mask `inputs["mask"]`."""
        mask = inputs["mask"]
        more = {"output_attentions": True} if self.token_weights else {}
        outputs = self.model(input_ids=inputs["tokens"], attention_mask=mask.long(), **more)
        values = outputs.last_hidden_state
        weight = first_attention(outputs.attentions[-1], mask) if self.token_weights else None
        vector = masked_mean(values, mask) if self.arguments["pool"] == "mean" else values[:, 0]
        parts = phrase_tokens(values, inputs) if self.part_width is not None else None
        return Features(vector, Tokens(values, mask, weight), parts)


def first_attention(attention: Tensor, mask: Tensor) -> Tensor:
    """Attention of the first token to the others, mean over heads; 0 for itself and padding, without a gradient.

    Shape:
        attention `(batch, heads, length, length)`, mask `(batch, length)` -> `(batch, length)`.
    """
    weights = attention.detach()[:, :, 0].mean(1).masked_fill(~mask, 0.0)
    weights[:, :1] = 0.0
    return weights


def huggingface_tokenizer(encoder_args: Mapping[str, Any], max_length: int | None) -> JsonTokenizer:
    """The tokenizer of a model, truncated to `max_length` (None = the model's maximum, at most 128).

    Raises:
        UserError: the model has no fast tokenizer, or `max_length` is above its maximum.
    """
    name = encoder_args.get("model")
    if not isinstance(name, str):
        raise UserError("encoder 'huggingface' needs a model: a local folder or a hub id")
    tokenizer = fast_tokenizer(name)
    longest = min(tokenizer.longest, model_config(name).get("max_position_embeddings") or tokenizer.longest)
    if max_length is not None and max_length > longest:
        raise UserError(f"{name} takes texts of at most {longest} word pieces, max_length is {max_length}")
    length = min(longest, DEFAULT_LENGTH) if max_length is None else max_length
    return JsonTokenizer(tokenizer.description, length, pad=tokenizer.pad)


def build_text_model(name: str | None, description: Mapping[str, Any]) -> Any:
    """A text encoder of transformers; for an encoder-decoder model, its encoder.

    Args:
        name: Folder or hub id of the weights; None = random weights.
        description: The configuration.

    Raises:
        UserError: the model cannot be built, or its weights do not fit.
    """
    transformers, arguments = transformers_package(), dict(description)
    try:
        kind = str(arguments.pop("model_type", ""))
        if kind.startswith("timm"):  # an image model, which would download itself
            raise UserError(f"{kind!r} is no text model")
        config = transformers.AutoConfig.for_model(kind, **arguments)
        if name is not None:
            built = load_model(transformers.AutoModel, name, config, optional=("pooler.",))
        else:
            built = transformers.AutoModel.from_config(config, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # the loaders raise many types of errors
        raise UserError(f"cannot build the text model: {first_line(error)}") from error
    if config.is_encoder_decoder:
        built = built.get_encoder()
    if getattr(built, "pooler", None) is not None:
        built.pooler = None  # belongs to another loss and would stay untrained
    return built
