"""Augmentation of texts by words: random crops and word dropout."""

from collections.abc import Sequence

import numpy as np

from mmalign.errors import UserError

WHOLE = (1.0, 1.0)
"""Bounds of `random_crop` that crop nothing."""


def checked_crop(bounds: Sequence[float], where: str) -> tuple[float, float]:
    """Bounds of a random crop: fractions of the words, [minimum, maximum].

    Raises:
        UserError: they are not two numbers in (0, 1], ascending.
    """
    numbers = not isinstance(bounds, str) and isinstance(bounds, Sequence) and len(bounds) == 2
    if not numbers or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in bounds):
        raise UserError(f"{where}: random_crop must be two fractions, [minimum, maximum], got {bounds!r}")
    low, high = float(bounds[0]), float(bounds[1])
    if not 0 < low <= high <= 1:
        raise UserError(f"{where}: random_crop must be fractions in (0, 1], ascending, got {list(bounds)}")
    return low, high


def augmented(text: str, crop: tuple[float, float], dropout: float, rng: np.random.Generator) -> str:
    """A random crop of a text, without some of its words."""
    if crop != WHOLE:
        text = random_crop(text, crop, rng)
    return without_some(text, dropout, rng) if dropout else text


def random_crop(text: str, bounds: tuple[float, float], rng: np.random.Generator) -> str:
    """Consecutive words of a text, at least one, of a length drawn evenly between two fractions of its words.

    (Contriever, Izacard et al. 2022, arXiv 2112.09118: 0.05 to 0.5.)

    Example:
        >>> random_crop("one two three four", (0.5, 0.5), np.random.default_rng(0))
        'two three'
    """
    words = text.split()
    size = max(1, round(rng.uniform(*bounds) * len(words)))
    start = int(rng.integers(len(words) - size + 1))
    return " ".join(words[start : start + size])


def without_some(text: str, share: float, rng: np.random.Generator) -> str:
    """Word dropout: drop each word with probability `share`; one word always stays."""
    words = text.split()
    keep = rng.random(len(words)) >= share
    keep[rng.integers(len(words))] = True
    return " ".join(word for word, keeps in zip(words, keep, strict=True) if keeps)
