"""The words of a text, and which word pieces each is made of: for pictures of what a text answers to."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.modality import Units
from mmalign.pictures.figures import ORANGE
from mmalign.pictures.words import draw_words, shade
from modalities.text.tokenizer import BpeTokenizer, ClipTokenizer, JsonTokenizer, Tokenizer
from modalities.text.transform import TextTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Span = tuple[int, int] | None

_WORD = re.compile(r"\S+")


def text_units(sample: str, transform: TextTransform, grain: str, count: int) -> Units | None:
    """The words up to the last one that the encoder saw; a phrase's share is spread over its pieces.

    Returns:
        None where the tokenizer cannot say which letters a piece stands for, or the encoder's tokens are not pieces.

    Example:
        >>> from modalities.text.transform import TextSettings
        >>> transform = TextTransform(TextSettings())
        >>> transform.fit(["a red disc"] * 4)
        >>> found = text_units("a red cube", transform, "tokens", len(transform("a red cube")))
        >>> found.labels, found.members.sum(1)  # a class token shows nowhere; "cube" has four pieces
        (['a', 'red', 'cube'], array([1., 1., 5.]))
    """
    located = piece_spans(transform.tokenizer, sample)
    if located is None:
        return None
    shown, spans = located
    words = [found.span() for found in _WORD.finditer(shown)]
    pieces = [_shares(span, words) for span in spans]
    last = max((max(shares) for shares in pieces if shares), default=-1)
    members = np.zeros((last + 1, len(pieces)))
    for place, shares in enumerate(pieces):
        for word, share in shares.items():
            members[word, place] = share
    if grain == "parts":
        joined = _phrases(sample, transform, len(pieces))
        if joined is None:
            return None
        members = members @ joined
    if count < members.shape[1]:
        return None
    padded = np.pad(members, ((0, 0), (0, count - members.shape[1])))
    return Units([shown[start:stop] for start, stop in words[: last + 1]], padded, shown=shown, spelled=True)


def draw_weighted(sample: str, axes: "Axes", weights: Sequence[float]) -> None:
    """Write a text with each word on a ground as dark as its weight.

    Args:
        sample: The text.
        axes: Where to.
        weights: Of its first words, as many as `text_units` names, at least 0; the largest takes the full colour.

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


def piece_spans(tokenizer: Tokenizer, text: str) -> tuple[str, list[Span]] | None:
    """The text that the pieces spell, and where in it each piece stands; None = a special token.

    Returns:
        None for a tokenizer that is not known here.
    """
    if isinstance(tokenizer, BpeTokenizer):
        offsets = tokenizer.tokenizer.encode(text, add_special_tokens=False).offsets
        return text, [None, *offsets[: tokenizer.max_length - 1]]
    if isinstance(tokenizer, JsonTokenizer):
        cleaned = _cleaned(text, tokenizer.clean) if tokenizer.clean else text
        found = tokenizer.tokenizer.encode(cleaned)
        marks = zip(found.offsets, found.special_tokens_mask, strict=True)
        return cleaned, [None if special else span for span, special in marks]
    if isinstance(tokenizer, ClipTokenizer):
        spelled, spans = "", list[Span]()
        for piece in tokenizer(text):
            special = piece in (tokenizer.tokenizer.sot_token_id, tokenizer.tokenizer.eot_token_id)
            letters = "" if special else tokenizer.tokenizer.decode([piece])
            spans.append(None if special else (len(spelled), len(spelled) + len(letters)))
            spelled += letters
        return spelled, spans
    return None


def _cleaned(text: str, step: str) -> str:
    from modalities.common.open_clip import open_clip_package

    cleaned: str = open_clip_package("text").tokenizer.get_clean_fn(step)(text)
    return cleaned


def _shares(span: Span, words: Sequence[tuple[int, int]]) -> dict[int, float]:
    if span is None:
        return {}
    common = {place: min(span[1], stop) - max(span[0], start) for place, (start, stop) in enumerate(words)}
    common = {place: letters for place, letters in common.items() if letters > 0}
    total = sum(common.values())
    return {place: letters / total for place, letters in common.items()}


def _phrases(sample: str, transform: TextTransform, pieces: int) -> NDArray[np.float64] | None:
    """`(pieces, phrases)`, the share of each piece in the mean that a phrase is."""
    inputs: dict[str, Any] = transform.collate([transform(sample)])
    if "phrase" not in inputs:
        return None
    phrase = inputs["phrase"][0, :pieces].numpy()
    joined = (phrase[:, None] == np.arange(inputs["phrase_mask"].shape[1])).astype(np.float64)
    return joined / np.maximum(joined.sum(0), 1)
