"""Linear text encoder of TF-IDF n-grams; tokens are words."""

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.embedding_bags import bag_matrix, bag_sums
from modalities.common.encoders.transformer import Transformer
from modalities.text.phrases import phrase_tokens
from modalities.text.tfidf_transform import NgramTransform


class NgramBag(Encoder):
    r"""Linear map of TF-IDF n-grams: one vector per n-gram; a word is the sum of its n-grams, a text of its words.

    .. math:: v = \sum_g w_g E_g + \gamma \odot \mathrm{mean}(\mathrm{context})

    With a few thousand texts, letter n-grams represent parts of names that occur in no training text as a whole.
    `model.cca_init` sets E. Transformer layers over the words (`depth`) add context to the tokens, and to the vector
    through a learnt gate, which CCA initialisation sets to 0. Tokens are words, parts are phrases.

    Args:
        transform: The transform, fitted.
        width: Size of the vector and of a token.
        depth: Layers of a transformer over the words; 0 = a word is the sum of its n-grams.
        heads: Attention heads of these layers.
        dropout: Fraction of units dropped in training.
        phrases: Return phrases as parts; None = if the transform finds them.

    Shape:
        What `NgramTransform.collate` makes -> vector `(batch, width)`, tokens `(batch, words, width)`.

    Example:
        >>> from modalities.text.tfidf_transform import NgramSettings
        >>> transform = NgramTransform(NgramSettings(min_count=1))
        >>> transform.fit(["a red disc", "a blue square"])
        >>> encoder = NgramBag(transform, width=8)
        >>> encoder(transform.collate([transform.item("a red square")])).tokens.values.shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        transform: NgramTransform,
        *,
        width: int = 256,
        depth: int = 0,
        heads: int = 4,
        dropout: float = 0.1,
        phrases: bool | None = None,
    ) -> None:
        has_phrases = transform.settings.phrases
        if phrases and not has_phrases:
            raise UserError("text: the encoder returns phrases, its transform does not detect them: set phrases: true")
        super().__init__(width, token_width=width, part_width=width if has_phrases else None)
        self.arguments = {"width": width, "depth": depth, "heads": heads, "dropout": dropout, "phrases": has_phrases}
        self.table = nn.Parameter(torch.randn(transform.size, width) * width**-0.5)
        self.phrases = has_phrases
        self.layers = Transformer(width, depth=depth, heads=heads, dropout=dropout) if depth else None
        if depth:
            self.positions = nn.Parameter(torch.randn(transform.settings.max_length, width) * 0.02)
            self.norm = nn.LayerNorm(width)
            self.gate = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch."""
        mask = inputs["mask"]
        sums = bag_sums(self.table, inputs)
        vector = sums.new_zeros(mask.shape[0], self.width).index_add(0, inputs["text"], sums)
        values = sums.new_zeros(mask.numel(), self.width).index_copy(0, inputs["slot"], sums).view(*mask.shape, -1)
        if self.layers is not None:
            values = self.layers(self.norm(values) + self.positions[: mask.shape[1]], mask)
            values = values * mask[:, :, None]
            vector = vector + self.gate * (values.sum(1) / mask.sum(1, keepdim=True))
        tokens = Tokens(values, mask)
        if not self.phrases:
            return Features(vector, tokens)
        return Features(vector, tokens, phrase_tokens(values, inputs))

    def linear_features(self, inputs: Inputs) -> Tensor:
        """A text's n-grams by weight, `(batch, n-grams)`, sparse."""
        return bag_matrix(inputs, inputs["text"], inputs["mask"].shape[0], len(self.table))

    def set_linear_weights(self, weight: Tensor) -> None:
        """Set the vectors of the n-grams, and close the gate."""
        with torch.no_grad():
            self.table.copy_(weight)
            if self.layers is not None:
                self.gate.zero_()
