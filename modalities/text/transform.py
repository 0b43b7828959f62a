"""Text transform: tokenise and pad; the same code in training and inference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.types import Inputs
from modalities.common.encoders.agreed import agreed
from modalities.text.augment import WHOLE, augmented, checked_crop
from modalities.text.phrases import phrase_ends, phrase_of_each_piece
from modalities.text.tokenizers.bpe import SPECIALS, Tokenizer, restore_tokenizer, train_bpe

TOKENIZERS = ("bpe", "iupac")


@dataclass(frozen=True)
class TextSettings:
    """Settings of preprocessing.

    Args:
        max_length: Maximum length in word pieces, special tokens included; longer texts are truncated.
        vocab_size: Maximum vocabulary size of a trained tokenizer.
        word_dropout: Probability of dropping a word in training; one word always stays.
        random_crop: Minimum and maximum fraction of the words that a random crop keeps in training; [1, 1] = no crop.
        tokenizer: Trained tokenizer: bpe, or iupac, which respects the morphemes of chemical names.
        phrases: Segment phrases, for encoders that return them as parts.
    """

    max_length: int = 64
    vocab_size: int = 8192
    word_dropout: float = 0.0
    random_crop: tuple[float, float] = WHOLE
    tokenizer: str = "bpe"
    phrases: bool = False

    def __post_init__(self) -> None:
        """Validate the settings."""
        if not isinstance(self.max_length, int) or not 2 <= self.max_length <= 8192:
            raise UserError(f"text transform: max_length must be an integer in 2..8192, got {self.max_length!r}")
        if not isinstance(self.vocab_size, int) or not 256 + SPECIALS <= self.vocab_size <= 2**20:
            raise UserError(f"text transform: vocab_size must be in {256 + SPECIALS}..{2**20}, got {self.vocab_size!r}")
        if not 0 <= self.word_dropout < 1:
            raise UserError(f"text transform: word_dropout must be in 0..1, got {self.word_dropout}")
        object.__setattr__(self, "random_crop", checked_crop(self.random_crop, "text transform"))
        if self.tokenizer not in TOKENIZERS:
            raise UserError(f"text transform: tokenizer must be {' or '.join(TOKENIZERS)}, got {self.tokenizer!r}")
        if not isinstance(self.phrases, bool):
            raise UserError(f"text transform: phrases must be true or false, got {self.phrases!r}")

    @staticmethod
    def make(values: Mapping[str, Any]) -> "TextSettings":
        """Build from a mapping; raises an error for unknown names."""
        return registry.settings(TextSettings, values, "text transform")


class Phrased(NamedTuple):
    """A text with phrases: its token ids, and the phrase index of each, -1 = none."""

    ids: list[int]
    phrases: list[int]


class TextTransform(Transform):
    """Tokenise and pad.

    Args:
        settings: See `TextSettings`.
        tokenizer: None = train one in `fit`.
        fixed: Pad every batch to `max_length`, for models without a padding mask; else to its longest text.
        sealed: Loaded from a bundle: an encoder built for it reads no file and no network.

    Shape:
        text -> item, a list of integers -> `tokens (batch, length)` int64, `mask (batch, length)` bool. With `phrases`
        items are `Phrased`, and there are also `phrase (batch, length)` int64, the index of each token's phrase or -1,
        and `phrase_mask (batch, phrases)`.

    Example:
        >>> from modalities.text.transform import TextSettings, TextTransform
        >>> transform = TextTransform(TextSettings())
        >>> transform.fit(["a red disc", "a blue square"] * 2)
        >>> transform.collate([transform.item("red"), transform.item("a red disc")])["mask"].sum(1)
        tensor([2, 4])
    """

    def __init__(
        self,
        settings: TextSettings,
        tokenizer: Tokenizer | None = None,
        *,
        fixed: bool = False,
        sealed: bool = False,
    ) -> None:
        self.settings, self._tokenizer, self.fixed, self.sealed = settings, tokenizer, fixed, sealed

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; raises an error before it is trained."""
        if self._tokenizer is None:
            raise UserError("this text transform has no tokenizer yet: call fit with the training texts first")
        return self._tokenizer

    def fit(self, samples: Iterable[str]) -> None:
        """Train the tokenizer, unless one was given."""
        if self._tokenizer is None:
            s = self.settings
            self._tokenizer = train_bpe(
                samples, vocab_size=s.vocab_size, max_length=s.max_length, iupac=s.tokenizer == "iupac"
            )

    def __call__(self, sample: str, rng: np.random.Generator | None = None) -> list[int] | Phrased:
        """Tokenize."""
        if rng is not None:
            sample = augmented(sample, self.settings.random_crop, self.settings.word_dropout, rng)
        if not self.settings.phrases:
            return self.tokenizer(sample)
        ids, spans, text = self.tokenizer.pieces(sample)
        return Phrased(
            ids, phrase_of_each_piece([-1 if span is None else span[1] for span in spans], phrase_ends(text))
        )

    @property
    def truncation(self) -> str:
        """The maximum length and its setting."""
        return f"{self.settings.max_length} word pieces (transform.max_length)"

    def truncates(self, sample: str) -> bool:
        """Whether the tokenizer drops the end of a text."""
        return self.tokenizer.truncates(sample)

    def collate(self, items: Sequence[list[int] | Phrased]) -> Inputs:
        """Pad on the right."""
        ids = [item.ids if isinstance(item, Phrased) else item for item in items]
        length = self.settings.max_length if self.fixed else max(len(item) for item in ids)
        tokens = torch.full((len(ids), length), self.tokenizer.pad, dtype=torch.int64)
        mask = torch.zeros(len(ids), length, dtype=torch.bool)
        for row, item in enumerate(ids):
            tokens[row, : len(item)] = torch.tensor(item)
            mask[row, : len(item)] = True
        inputs = {"tokens": tokens, "mask": mask}
        if self.settings.phrases:
            phrases = [item.phrases for item in items if isinstance(item, Phrased)]
            inputs |= phrase_inputs(phrases, length)
        return inputs

    def config(self) -> dict[str, Any]:
        """Settings and tokenizer."""
        return {"settings": asdict(self.settings), "fixed": self.fixed, "tokenizer": self.tokenizer.config()}

    @staticmethod
    def restore(config: Mapping[str, Any]) -> "TextTransform":
        """From `config()`."""
        tokenizer = restore_tokenizer(config["tokenizer"])
        return TextTransform(TextSettings.make(config["settings"]), tokenizer, fixed=config["fixed"], sealed=True)

    def checked_length(self, max_length: int | None) -> int:
        """The maximum length, checked against the encoder's argument.

        Raises:
            UserError: `max_length` is not this transform's.
        """
        return agreed(max_length, self.settings.max_length, "texts of length {}")

    def checked_phrases(self, phrases: bool) -> bool:
        """Check that the transform finds phrases if the encoder returns them.

        Raises:
            UserError: it does not.
        """
        if phrases and not self.settings.phrases:
            raise UserError(
                "text: the encoder returns phrases, its transform does not detect them: set transform: {phrases: true}"
            )
        return phrases


def phrase_inputs(phrases: Sequence[Sequence[int]], length: int) -> Inputs:
    """The phrase of each token, `phrase (batch, length)` with -1 = none, and `phrase_mask (batch, phrases)`."""
    counts = torch.tensor([max(one, default=-1) + 1 for one in phrases])
    phrase = torch.full((len(phrases), length), -1, dtype=torch.int64)
    for row, one in enumerate(phrases):
        phrase[row, : len(one)] = torch.tensor(one)
    return {"phrase": phrase, "phrase_mask": torch.arange(int(counts.max())) < counts[:, None]}
