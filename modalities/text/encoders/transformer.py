"""A small text transformer trained from scratch."""

import torch
from torch import nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.transformer import Transformer, masked_mean
from modalities.text.phrases import phrase_tokens
from modalities.text.transform import TextTransform


class TextTransformer(Encoder):
    """Transformer over word pieces, with masked mean or class-token pooling; invariant to padding.

    Args:
        transform: The fitted transform; defines the vocabulary and the maximum length.
        width: Size of a token.
        depth: Layers.
        heads: Attention heads; must divide `width`.
        pool: mean or class.
        dropout: Fraction of values dropped on each residual branch in training.
        max_length: Maximum number of tokens, checked against the transform's; None = the transform's.
        phrases: Return phrases as parts.
        token_weights: Return the class token's attention in the last layer as weights of the tokens; needs pool class.

    Shape:
        `tokens (batch, length)`, `mask (batch, length)` -> vector `(batch, width)`, tokens `(batch, length, width)`,
        and parts `(batch, phrases, width)` by `phrase` and `phrase_mask`.

    Example:
        >>> from modalities.text import MODALITY
        >>> transform = MODALITY.transform("transformer", {})
        >>> transform.fit(["a red disc", "a blue square"])
        >>> encoder = MODALITY.encoder("transformer", transform, width=16, depth=1, heads=2)
        >>> encoder(transform.collate([transform.item("red")])).vector.shape
        torch.Size([1, 16])
    """

    def __init__(
        self,
        transform: TextTransform,
        *,
        width: int = 192,
        depth: int = 3,
        heads: int = 3,
        pool: str = "mean",
        dropout: float = 0.0,
        max_length: int | None = None,
        phrases: bool = False,
        token_weights: bool = False,
    ) -> None:
        super().__init__(width, token_width=width, part_width=width if transform.checked_phrases(phrases) else None)
        if pool not in ("mean", "class"):
            raise UserError(f"text transformer: pool must be mean or class, got {pool!r}")
        if token_weights and pool != "class":
            raise UserError("text transformer: token_weights are the attention of the class token; set pool: class")
        max_length = transform.checked_length(max_length)
        self.arguments = {
            "width": width, "depth": depth, "heads": heads,
            "pool": pool, "dropout": dropout, "max_length": max_length, "phrases": phrases,
            **({"token_weights": True} if token_weights else {}),
        }  # fmt: skip
        self.token_weights = token_weights
        self.pieces = nn.Embedding(transform.tokenizer.vocab_size, width)
        self.positions = nn.Parameter(torch.empty(max_length, width))
        nn.init.normal_(self.pieces.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        self.layers = Transformer(width, depth=depth, heads=heads, dropout=dropout)

    def token_table(self) -> nn.Embedding:
        """The embedding of token ids, before positions are added."""
        return self.pieces

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["tokens"]` with the mask `inputs["mask"]`."""
        ids, mask = inputs["tokens"], inputs["mask"]
        values, weight = self.pieces(ids) + self.positions[: ids.shape[1]], None
        if self.token_weights:
            values, weight = self.layers.with_first_attention(values, mask)
        else:
            values = self.layers(values, mask)
        vector = masked_mean(values, mask) if self.arguments["pool"] == "mean" else values[:, 0]
        parts = phrase_tokens(values, inputs) if self.part_width is not None else None
        return Features(vector, Tokens(values, mask, weight), parts)
