"""BM25 against hand-worked scores."""

import math

import pytest
import torch

from mmalign.evaluation.ranking.bm25 import BM25

DOCUMENTS = ["red disc", "red red square on a table", "blue disc here"]


def by_hand(query: str, document: str, k1: float, b: float) -> float:
    """One pair, word by word; all documents have distinct, blank separated words."""
    words, mean = document.split(), sum(len(one.split()) for one in DOCUMENTS) / 3
    total = 0.0
    for word in query.split():
        having, tf = sum(word in one.split() for one in DOCUMENTS), words.count(word)
        if tf:
            idf = math.log(1 + (3 - having + 0.5) / (having + 0.5))
            total += idf * tf / (tf + k1 * (1 - b + b * len(words) / mean))
    return total


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.5, 0.0)])
def test_scores_of_three_documents(k1: float, b: float) -> None:
    queries = ["red", "Red disc!", "square square blue", "unknown"]
    got = BM25(DOCUMENTS, k1, b).scores(queries)
    plain = ["red", "red disc", "square square blue", "unknown"]
    wanted = torch.tensor([[by_hand(query, one, k1, b) for one in DOCUMENTS] for query in plain]).double()
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-12)
    assert (got[3] == 0).all()


def test_a_worked_number() -> None:
    """`blue` is in 1 of 3 documents, the third, of 3 words; the mean is 11 / 3."""
    wanted = math.log(1 + 2.5 / 1.5) / (1 + 0.9 * (0.6 + 0.4 * 3 / (11 / 3)))
    torch.testing.assert_close(float(BM25(DOCUMENTS).scores(["blue"])[0, 2]), wanted)


def test_the_order_of_documents_and_blocks_of_queries_change_nothing() -> None:
    queries = [*DOCUMENTS, "a table"]
    scores = BM25(DOCUMENTS).scores(queries)
    torch.testing.assert_close(BM25(DOCUMENTS[::-1]).scores(queries), scores.flip(1), rtol=1e-12, atol=1e-12)
    blocks = list(BM25(DOCUMENTS).blocks(queries, pairs=6))
    assert [block.start for block in blocks] == [0, 2]
    torch.testing.assert_close(torch.cat([block.scores for block in blocks]), scores, rtol=0, atol=0)


def test_empty_texts_have_no_score() -> None:
    assert BM25(["", "word"]).scores(["", "word"]).tolist()[0] == [0.0, 0.0]
    assert BM25([]).scores(["word"]).shape == (1, 0)
    assert BM25(["..."]).scores(["word"]).tolist() == [[0.0]]
