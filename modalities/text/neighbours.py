"""Surface similarity of texts by shared words and pairs of words, for hard negatives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.common.nearest import nearest_others


def neighbours(texts: Sequence[str], count: int) -> NDArray[np.int64]:
    """The nearest other texts of each, nearest first, by the cosine of TF-IDF weights of words and pairs of words.

    Equal similarity: the lower index first. Texts of equal words, whatever their case and spaces, are no neighbours.

    Args:
        texts: All of them, `n`. Time grows with n squared.
        count: Number of neighbours.

    Returns:
        Indices into `texts`, `(n, count)`, -1 where there are fewer; texts without a common word are no neighbours.

    Example:
        >>> texts = ["a red disc moves left", "two dogs", "a red disc moves right", "A red disc  moves left"]
        >>> neighbours(texts, 2).tolist()
        [[2, -1], [-1, -1], [0, 3], [2, -1]]
    """
    if len(texts) < 2 or count < 1:
        return np.full((len(texts), max(count, 0)), -1, np.int64)
    weights = surface_features(texts)
    words = [" ".join(text.lower().split()) for text in texts]
    return nearest_others(words, count, lambda block: (weights[block] @ weights.T).toarray())


def surface_features(texts: Sequence[str]) -> Any:
    """TF-IDF weights of the words and pairs of words of each text, as unit rows.

    Args:
        texts: All of them, `n`; a text without words has a row of zeros.

    Returns:
        Sparse matrix `(n, words)`, CSR.

    Example:
        >>> features = surface_features(["two dogs", "dogs", "Two  dogs"])
        >>> (features @ features.T).toarray().astype(float).round(1).tolist()
        [[1.0, 0.5, 1.0], [0.5, 1.0, 0.5], [1.0, 0.5, 1.0]]
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", dtype=np.float32).fit_transform(texts)
