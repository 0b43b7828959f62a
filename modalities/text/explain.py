"""Labels of text tokens: words, and the word pieces that they consist of."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmalign.capabilities import TokenLabels
from mmalign.errors import UserError
from mmalign.pictures.figures import ORANGE
from mmalign.pictures.words import draw_words, shade
from modalities.text.tfidf_transform import NgramTransform
from modalities.text.transform import TextTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Span = tuple[int, int] | None

_FUNCTION_WORDS = """
a an the this that these those it its they their them he she his her which who whose
and or nor but if as than of in on at by to from for with into onto over under between through during via per
is are was were be been being has have had having do does did can could may might will would shall should must
there here where when while also such so very other any some each both all only same
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English articles, pronouns, prepositions, conjunctions and auxiliaries, without negations and numbers."""

_WORD = re.compile(r"\S+")
_EDGES = re.compile(r"^[^\w]+|[^\w]+$")


def text_units(sample: str, transform: TextTransform, level: str, count: int) -> TokenLabels | None:
    """The words up to the encoder's maximum length; a phrase is divided among its pieces.

    Returns:
        None if the encoder has fewer tokens than pieces, or the transform finds no phrases.

    Example:
        >>> from modalities.text.transform import TextSettings
        >>> transform = TextTransform(TextSettings())
        >>> transform.fit(["a red disc"] * 4)
        >>> result = text_units("a red cube", transform, "tokens", len(transform.item("a red cube")))
        >>> result.labels, result.members.sum(1)  # a class token shows nowhere; "cube" has four pieces
        (['a', 'red', 'cube'], array([1., 1., 4.]))
    """
    tokens = transform.tokenizer.pieces(sample)
    shown, spans = tokens.text, tokens.spans
    words = [word.span() for word in _WORD.finditer(shown)]
    pieces = [_shares(span, words) for span in spans]
    last = max((max(shares) for shares in pieces if shares), default=-1)
    members = np.zeros((last + 1, len(pieces)))
    for index, shares in enumerate(pieces):
        for word, share in shares.items():
            members[word, index] = share
    if level == "parts":
        joined = _phrases(sample, transform, len(pieces))
        if joined is None:
            return None
        members = members @ joined
    if count < members.shape[1]:
        return None
    padded = np.pad(members, ((0, 0), (0, count - members.shape[1])))
    labels = [shown[start:stop] for start, stop in words[: last + 1]]
    return TokenLabels(labels, padded, shown=shown, spelled=True, minor=stop_words(labels))


def ngram_units(sample: str, transform: NgramTransform, level: str, count: int) -> TokenLabels | None:
    """The words of the normalised text, each with its tokens; phrases are not divided."""
    text, spans = transform.spelled(sample)
    words = [word.span() for word in _WORD.finditer(text)]
    members = np.zeros((len(words), count))
    if level != "tokens" or count < len(spans):
        return None
    starts = [start for start, _ in words]
    for index, (start, _) in enumerate(spans):
        members[bisect_right(starts, start) - 1, index] = 1.0
    labels = [text[start:stop] for start, stop in words]
    return TokenLabels(labels, members, shown=text, spelled=True, minor=stop_words(labels))


def stop_words(words: Sequence[str]) -> frozenset[int]:
    """Indices of English function words, and of words without a letter or digit.

    Example:
        >>> sorted(stop_words(["The", "acid", "is", "(a)", "weak", "one", "."]))
        [0, 2, 3, 6]
    """
    plain = [_EDGES.sub("", word).lower() for word in words]
    return frozenset(index for index, word in enumerate(plain) if not word or word in STOP_WORDS)


def draw_weighted(sample: str, axes: "Axes", weights: Sequence[float]) -> None:
    """Draw a text with each word on a background shaded by its weight.

    Args:
        sample: The text.
        axes: Axes to draw on.
        weights: Weights of its first words, as many as `text_units` returns, at least 0; the largest has the full
            colour.

    Raises:
        UserError: more weights than words, or one is negative, NaN or infinite.
    """
    words, sizes = sample.split(), np.asarray(weights, dtype=np.float64)
    if sizes.ndim != 1 or len(sizes) > len(words) or not np.isfinite(sizes).all() or (sizes < 0).any():
        raise UserError(f"expected finite weights of at least 0, at most {len(words)}, one a word, got {sizes.shape}")
    most = max(float(sizes.max(initial=0.0)), 1e-12)
    cut = ["…"] * (len(sizes) < len(words))
    grounds = [shade(size / most, ORANGE) for size in sizes.tolist()]
    draw_words(axes, [*words[: len(sizes)], *cut], [*grounds, *[None] * len(cut)])


def _shares(span: Span, words: Sequence[tuple[int, int]]) -> dict[int, float]:
    """Words that overlap a piece, each with its fraction of the piece's letters."""
    if span is None:
        return {}
    common = {}
    for index in range(bisect_right(words, span[0], key=lambda word: word[1]), len(words)):
        start, stop = words[index]
        if start >= span[1]:
            break
        common[index] = min(span[1], stop) - max(span[0], start)
    total = sum(common.values())
    return {index: letters / total for index, letters in common.items()} if total else {}


def _phrases(sample: str, transform: TextTransform, pieces: int) -> NDArray[np.float64] | None:
    """`(pieces, phrases)`: weight of each piece in the phrase's mean."""
    inputs: dict[str, Any] = transform.collate([transform.item(sample)])
    if "phrase" not in inputs:
        return None
    phrase = inputs["phrase"][0, :pieces].numpy()
    joined = (phrase[:, None] == np.arange(inputs["phrase_mask"].shape[1])).astype(np.float64)
    shares: NDArray[np.float64] = joined / np.maximum(joined.sum(0), 1)
    return shares
