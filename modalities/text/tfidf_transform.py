"""TF-IDF transform: weighted n-grams, each assigned to the word in which it begins."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.registry import nearest
from mmalign.types import Inputs
from modalities.common.encoders.embedding_bags import bag_inputs, padded_mask, padded_slots
from modalities.text.augment import WHOLE, augmented, checked_crop
from modalities.text.phrases import phrase_ends, phrase_of_each_piece
from modalities.text.transform import phrase_inputs

_WORD = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")


@dataclass(frozen=True)
class NgramSettings:
    """Settings of the n-grams.

    Args:
        words: Minimum and maximum n of word n-grams; a run of letters, a digit and a sign are a word each.
        letters: Minimum and maximum n of letter n-grams, spaces included.
        share: Fraction of a text's squared norm in its letter n-grams.
        vocabulary: Maximum number of n-grams of each of the two families; the most frequent are kept.
        min_count: Minimum number of training texts with the n-gram.
        max_length: Maximum number of words of a text; the rest is truncated.
        word_dropout: Probability of dropping a word in training; one word always stays.
        random_crop: Minimum and maximum fraction of the words that a random crop keeps in training; [1, 1] = no crop.
        phrases: Segment phrases, for parts.
    """

    words: tuple[int, int] = (1, 2)
    letters: tuple[int, int] = (3, 5)
    share: float = 0.75
    vocabulary: int = 40_000
    min_count: int = 2
    max_length: int = 256
    word_dropout: float = 0.0
    random_crop: tuple[float, float] = WHOLE
    phrases: bool = False

    def __post_init__(self) -> None:
        """Validate the settings."""
        for name in ("words", "letters"):
            sizes = tuple(getattr(self, name))
            if len(sizes) != 2 or not all(isinstance(size, int) for size in sizes) or not 1 <= sizes[0] <= sizes[1] < 9:
                raise UserError(f"tfidf transform: {name} must be two sizes in 1..8, [from, to], got {list(sizes)}")
            object.__setattr__(self, name, sizes)
        if not 0 < self.share < 1:
            raise UserError(f"tfidf transform: share must be between 0 and 1, got {self.share}")
        for name, most in (("vocabulary", 2**20), ("min_count", 2**20), ("max_length", 8192)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise UserError(f"tfidf transform: {name} must be an integer in 1..{most}, got {value!r}")
        if not 0 <= self.word_dropout < 1:
            raise UserError(f"tfidf transform: word_dropout must be in 0..1, got {self.word_dropout}")
        object.__setattr__(self, "random_crop", checked_crop(self.random_crop, "tfidf transform"))
        if not isinstance(self.phrases, bool):
            raise UserError(f"tfidf transform: phrases must be true or false, got {self.phrases!r}")

    @staticmethod
    def make(values: Mapping[str, Any]) -> "NgramSettings":
        """Build from a mapping; raises an error for unknown names."""
        known = {field.name for field in fields(NgramSettings)}
        for name in values:
            if name not in known:
                raise UserError(f"tfidf transform has no setting {name!r}{nearest(name, known)}")
        return NgramSettings(**values)


class Item(NamedTuple):
    """A text's known n-grams in the order of their words: index, weight, word; each word's phrase; and the text."""

    grams: NDArray[np.int32]
    weights: NDArray[np.float32]
    words: NDArray[np.int32]
    words_total: int
    phrases: tuple[int, ...]
    text: str


class NgramTransform(Transform):
    """TF-IDF weights of word and letter n-grams, with the vocabulary of the training texts.

    Term frequencies are 1 + log(count); each family of n-grams is normalised before they are concatenated, so that a
    text's bag has unit norm if both families have known n-grams.

    Args:
        settings: See `NgramSettings`.
        vocabulary: n-gram -> inverse document frequency, of words (joined by a blank) and of letters; None =
            computed by `fit`.

    Shape:
        `bins (F,)`, `weights (F,)`, `starts (T,)`: the bag of each of T words of the batch; `text (T,)`: whose word
        it is; `slot (T,)`: its place in the padded `mask (B, L)`. With `phrases` also `phrase (B, L)`, -1 = none, and
        `phrase_mask (B, P)`.

    Example:
        >>> transform = NgramTransform(NgramSettings(min_count=1))
        >>> transform.fit(["a red disc", "a blue square"])
        >>> transform.collate([transform.item("a red square")])["mask"].shape
        torch.Size([1, 3])
    """

    fit_before_featurise = True  # n-grams are weighted by the vocabulary

    def __init__(self, settings: NgramSettings, vocabulary: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self.settings = settings
        self._set(vocabulary)

    def _set(self, vocabulary: Mapping[str, Mapping[str, float]] | None) -> None:
        self.vocabulary = (
            None if vocabulary is None else {name: dict(vocabulary[name]) for name in ("words", "letters")}
        )
        if self.vocabulary is not None:
            first = len(self.vocabulary["words"])
            self._words = {gram: index for index, gram in enumerate(self.vocabulary["words"])}
            self._letters = {gram: first + index for index, gram in enumerate(self.vocabulary["letters"])}
            frequencies = [value for family in self.vocabulary.values() for value in family.values()]
            self._idf = np.array(frequencies, np.float64)

    @property
    def size(self) -> int:
        """Number of n-grams in the vocabulary."""
        if self.vocabulary is None:
            raise UserError("this text transform is not fitted yet: call fit with the training texts first")
        return len(self._idf)

    def fit(self, samples: Iterable[str]) -> None:
        """Compute the document frequency of each n-gram, unless the vocabulary was given.

        Raises:
            UserError: there is no text, or no n-gram occurs often enough.
        """
        if self.vocabulary is not None:
            return
        counts: dict[str, Counter[str]] = {"words": Counter(), "letters": Counter()}
        total = 0
        for total, sample in enumerate(samples, start=1):  # noqa: B007 - the count after the loop
            text, spans = _spans(sample, self.settings.max_length)
            counts["words"].update({gram for gram, _ in self._word_grams(text, spans)})
            counts["letters"].update({gram for gram, _ in self._letter_grams(text)})
        vocabulary = {}
        for name, counter in counts.items():
            often = [(gram, count) for gram, count in counter.items() if count >= self.settings.min_count]
            often.sort(key=lambda pair: (-pair[1], pair[0]))
            best = sorted(often[: self.settings.vocabulary])
            # Smoothed as in scikit-learn: as if one more text contained every n-gram.
            vocabulary[name] = {gram: 1 + math.log((1 + total) / (1 + count)) for gram, count in best}
        if not vocabulary["words"] and not vocabulary["letters"]:
            raise UserError(
                f"no n-gram occurs in {self.settings.min_count} of {total} training texts: give more texts, or set "
                "transform: {min_count: 1}"
            )
        self._set(vocabulary)

    @property
    def truncation(self) -> str:
        """The maximum length and its setting."""
        return f"{self.settings.max_length} words (transform.max_length)"

    def truncates(self, sample: str) -> bool:
        """Whether the end of a text is dropped."""
        return len(_spans(sample, self.settings.max_length + 1)[1]) > self.settings.max_length

    def featurise(self, sample: str) -> Item:
        """The known n-grams of one text."""
        return self._make(sample)

    def __call__(self, features: Item, rng: np.random.Generator | None = None) -> Item:
        """Compute the item; with `rng`, drop some words."""
        crop, dropout = self.settings.random_crop, self.settings.word_dropout
        if rng is not None and (dropout or crop != WHOLE):
            return self._make(augmented(features.text, crop, dropout, rng))
        return features

    def _make(self, sample: str) -> Item:
        assert self.size
        text, spans = _spans(sample, self.settings.max_length)
        begins = np.array([start for start, _ in spans] or [0])
        families = (
            (self._words, self._word_grams(text, spans), 1 - self.settings.share),
            (self._letters, self._letter_grams(text), self.settings.share),
        )
        parts = []
        for known, grams, share in families:
            known_grams = [(known[gram], offset) for gram, offset in grams if gram in known]
            if not known_grams:
                continue
            numbers, offsets = np.array(known_grams, np.int64).T
            unique, back, often = np.unique(numbers, return_inverse=True, return_counts=True)
            weights = (1 + np.log(often)) * self._idf[unique]
            weights *= math.sqrt(share) / float(np.linalg.norm(weights))
            # The weight of an n-gram with n occurrences is divided among them.
            words = np.maximum(np.searchsorted(begins, offsets, side="right") - 1, 0)
            parts.append((numbers, (weights / often)[back], words))
        if parts:
            numbers, weights, words = (np.concatenate(column) for column in zip(*parts, strict=True))
        else:
            numbers, weights, words = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)
        order = np.argsort(words, kind="stable")
        phrases: tuple[int, ...] = ()
        if self.settings.phrases:
            phrases = tuple(phrase_of_each_piece([end for _, end in spans] or [-1], phrase_ends(text)))
        return Item(
            numbers[order].astype(np.int32),
            weights[order].astype(np.float32),
            words[order].astype(np.int32),
            max(1, len(spans)),
            phrases,
            sample,
        )

    def _word_grams(self, text: str, spans: Sequence[tuple[int, int]]) -> Iterable[tuple[str, int]]:
        low, high = self.settings.words
        words = [text[start:end] for start, end in spans]
        for size in range(low, high + 1):
            for index in range(len(words) - size + 1):
                yield " ".join(words[index : index + size]), spans[index][0]

    def _letter_grams(self, text: str) -> Iterable[tuple[str, int]]:
        low, high = self.settings.letters
        for size in range(low, high + 1):
            for index in range(len(text) - size + 1):
                yield text[index : index + size], index

    def spelled(self, sample: str) -> tuple[str, list[tuple[int, int]]]:
        """The normalised text, and the character span of each of its words (the tokens)."""
        return _spans(sample, self.settings.max_length)

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Concatenate the words' bags."""
        counts = np.array([item.words_total for item in items])
        first = np.cumsum(counts) - counts
        words = np.concatenate([item.words + start for item, start in zip(items, first, strict=True)])
        bins, weights = (
            np.concatenate(list(column)) for column in zip(*((i.grams, i.weights) for i in items), strict=True)
        )
        inputs = bag_inputs(bins, weights, words, int(counts.sum()))
        inputs["text"] = torch.from_numpy(np.repeat(np.arange(len(items)), counts))
        inputs["slot"], inputs["mask"] = torch.from_numpy(padded_slots(counts)), padded_mask(counts)
        if self.settings.phrases:
            inputs |= phrase_inputs([item.phrases for item in items], int(counts.max()))
        return inputs

    def config(self) -> dict[str, Any]:
        """Settings and vocabulary."""
        assert self.size
        return {"kind": "tfidf", "settings": asdict(self.settings), "vocabulary": self.vocabulary}

    @staticmethod
    def restore(config: Mapping[str, Any]) -> "NgramTransform":
        """From `config()`."""
        return NgramTransform(NgramSettings.make(config["settings"]), config["vocabulary"])


def _spans(sample: str, most: int) -> tuple[str, list[tuple[int, int]]]:
    """The normalised text (NFKC, lower case, single blanks), truncated after `most` words, and its word spans."""
    text = " ".join(unicodedata.normalize("NFKC", sample).lower().split())
    spans = [match.span() for match in _WORD.finditer(text)][:most]
    return text[: spans[-1][1]] if spans else text, spans
