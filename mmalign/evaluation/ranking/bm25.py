"""BM25: ranking of texts by shared words, the baseline of text retrieval."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from mmalign.embedding.scoring import Block, margin_of

K1, B = 0.9, 0.4
PROTOCOL = f"BM25 of the words, lower case, without stemming, k1 {K1}, b {B}"

_WORD = re.compile(r"\w+")


class BM25:
    """Scores of documents by the words that they share with a query, `k1` 0.9 and `b` 0.4 by default.

        score(q, d) = sum over words w of q of  idf_w tf_wd / (tf_wd + k1 (1 - b + b |d| / mean |d|))
        idf_w       = log(1 + (N - n_w + 1/2) / (n_w + 1/2)),   n_w of N documents have the word

    (Robertson and Zaragoza 2009, The Probabilistic Relevance Framework; in this form in Lucene.) A word counts as often
    as it occurs in the query. Words are runs of letters, digits and underscores in lower case.

    Args:
        documents: The gallery.
        k1: Saturation of the count of a word.
        b: Strength of the normalisation by length.

    Example:
        >>> BM25(["a red disc", "a blue square", "two red discs"]).scores(["red square"]).argmax(1)
        tensor([1])
    """

    def __init__(self, documents: Sequence[str], k1: float = K1, b: float = B) -> None:
        counts = [Counter(words_of(document)) for document in documents]
        self._vocabulary = {word: index for index, word in enumerate(dict.fromkeys(w for one in counts for w in one))}
        table = self._table(counts)  # (documents, words)
        lengths = np.array([sum(one.values()) for one in counts], dtype=np.float64)
        damping = k1 * (1 - b + b * lengths / max(lengths.mean() if len(lengths) else 0.0, 1e-9))
        table.data = table.data / (table.data + np.repeat(damping, np.diff(table.indptr)))
        containing = np.bincount(table.indices, minlength=len(self._vocabulary))
        idf = np.log1p((len(documents) - containing + 0.5) / (containing + 0.5))
        table.data *= idf[table.indices]
        self._weights = table.T.tocsr()

    def scores(self, queries: Sequence[str]) -> torch.Tensor:
        """Scores of every query with every document, `(queries, documents)`; 0 where they share no word."""
        table = self._table([Counter(words_of(query)) for query in queries])
        return torch.from_numpy((table @ self._weights).toarray())

    def blocks(self, queries: Sequence[str], *, pairs: int = 2**23) -> Iterator[Block]:
        """The scores as blocks of consecutive queries, for `rank_blocks`, of at most `pairs` scores."""
        size = max(1, pairs // max(1, self._weights.shape[1]))
        for start in range(0, len(queries), size):
            scores = self.scores(queries[start : start + size])
            yield Block(start, scores, margin_of(scores))

    def _table(self, counts: Sequence[Counter[str]]) -> Any:
        """Counts of the known words, a sparse matrix `(texts, words)`."""
        from scipy.sparse import csr_array

        known = [[(self._vocabulary[word], n) for word, n in one.items() if word in self._vocabulary] for one in counts]
        ends = np.cumsum([0, *(len(one) for one in known)])
        cells = [cell for one in known for cell in one]
        columns = np.array([index for index, _ in cells], dtype=np.int64)
        values = np.array([n for _, n in cells], dtype=np.float64)
        return csr_array((values, columns, ends), shape=(len(counts), len(self._vocabulary)))


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case.

    Example:
        >>> words_of("It is 2-propanol.")
        ['it', 'is', '2', 'propanol']
    """
    return _WORD.findall(text.lower())
