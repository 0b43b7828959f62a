"""The first item and the first relevant item of each query, against a loop; ties; queries without a relevant item."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.embedding.scoring import Block
from mmalign.evaluation.ranking.first_items import FirstItems, joined, retrieval_rows
from mmalign.evaluation.ranking.ranks import rank_blocks
from mmalign.types import Embedding


@pytest.mark.parametrize("block", [1, 7, 40])
def test_first_items_equal_a_loop(block: int) -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.standard_normal((40, 12)), 1).astype(np.float32)  # many ties
    relevant = rng.random((40, 12)) < 0.15
    relevant[3] = False
    relevant[5] = True
    first = FirstItems()
    blocks = [
        Block(
            start, torch.from_numpy(scores[start : start + block]), torch.zeros(len(scores[start : start + block]), 1)
        )
        for start in range(0, 40, block)
    ]
    ranks = rank_blocks(blocks, csr_array(relevant), gallery=12, observe=first.add)
    best = dict(zip(ranks.queries.tolist(), ranks.best.tolist(), strict=True))
    for query in range(40):
        # Pessimistic order: by score, irrelevant items first, then by index.
        order = sorted(range(12), key=lambda k: (-scores[query, k], relevant[query, k], k))
        hits = [k for k in order if relevant[query, k]]
        assert first.relevant_items[query] == (min(hits, key=lambda k: (-scores[query, k], k)) if hits else -1)
        assert scores[query, first.items[query]] == first.scores[query] == scores[query].max()
        assert relevant[query, first.items[query]] == (bool(hits) and order.index(hits[0]) == 0)
        if hits:
            assert best[query] == order.index(hits[0])
            assert first.relevant_scores[query] == scores[query, hits[0]]
        else:
            assert query not in best
            assert torch.isnan(first.relevant_scores[query])


def test_a_transposed_block_is_read_by_its_rows() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.4]]).T
    first = FirstItems()
    rank_blocks([Block(0, scores, torch.zeros(2, 1))], csr_array(np.eye(2, 3)), gallery=3, observe=first.add)
    assert first.items.tolist() == [1, 0]
    assert first.relevant_items.tolist() == [0, 1]


def test_a_query_without_relevant_item_has_no_rank() -> None:
    records = [Record("a", "1", {}), Record("b", "2", {})]
    scores, first = torch.tensor([[0.1, 0.9, 0.2], [0.4, 0.3, 0.2]]), FirstItems()
    blocks = [Block(0, scores, torch.zeros(2, 1))]
    ranks = rank_blocks(blocks, csr_array([[0, 0, 1], [0, 0, 0]]), gallery=3, observe=first.add)
    queries = EmbeddedSplit(Embedding(torch.eye(2), log_variance=torch.zeros(2, 2)), torch.tensor([0, 1]))
    gallery = EmbeddedSplit(Embedding(torch.eye(3)), torch.tensor([1, 1, 0]))
    rows = retrieval_rows("x_to_y", ranks, first, queries, gallery, records=records, gallery_records=records)
    assert joined([rows, rows]) == {name: [*values, *values] for name, values in rows.items()}
    assert rows["rank"] == [2.0, None]
    assert rows["truth"] == ["a", None]
    assert rows["score"] == [pytest.approx(0.2), None]
    assert list(zip(rows["prediction"], rows["prediction_alternative"], strict=True)) == [("b", 1), ("b", 0)]
    assert rows["uncertainty"] == [2.0, 2.0]
