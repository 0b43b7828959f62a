"""Re-ranking: the full score orders what vectors chose, and nothing else moves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, eye_array
from torch.nn import functional as F

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.jagged import pack
from mmalign.embedding.scoring import full_blocks
from mmalign.errors import UserError
from mmalign.evaluation.ranking.ranks import rank_blocks
from mmalign.evaluation.ranking.rerank import PAIRS, reranked_blocks
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Embedding, Tokens
from tests.evaluation.running import evaluate_retrieval

MODEL = PairSum(
    [PairConfig("x", "y", "transport", score_weight=0.5), PairConfig("x", "y", "clip", score_weight=0.5)], 4
)


def side(count: int, longest: int, seed: int, tower: str) -> Embedding:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.arange(longest) < torch.randint(1, longest + 1, (count,), generator=draw)[:, None]
    values = F.normalize(torch.randn(count, longest, 4, generator=draw), dim=2)
    vector = F.normalize(torch.randn(count, 4, generator=draw), dim=1)
    return pack([Embedding(vector, tokens=Tokens(values, mask), tower=tower)])


def loop(queries: Embedding, gallery: Embedding, depth: int) -> list[list[int]]:
    """Each query's list, one by one in float64: the best by cosine, ordered in full, then the others."""
    cosines = (queries.vector.double() @ gallery.vector.double().T).numpy()
    full = MODEL.similarity(queries[:], gallery[:]).double().numpy()
    lists = []
    for cosine, score in zip(cosines, full, strict=True):
        order = np.argsort(-cosine).tolist()
        lists.append(sorted(order[:depth], key=lambda j: -score[j]) + order[depth:])
    return lists


@pytest.mark.parametrize("depth", [1, 7, 39, 40, 500])
@pytest.mark.parametrize("pairs", [1, 90, 2**20])
def test_equals_the_slow_loop(depth: int, pairs: int) -> None:
    queries, gallery = side(15, 5, 0, "x"), side(40, 6, 1, "y")
    for asking, answering in ((queries, gallery), (gallery, queries)):
        blocks = list(reranked_blocks(asking, answering, score=MODEL.similarity_pairwise, depth=depth, pairs=pairs))
        got = torch.cat([block.scores for block in blocks]).argsort(dim=1, descending=True)
        assert got.tolist() == loop(asking, answering, depth)
        assert [block.start for block in blocks] == list(range(0, len(asking), len(blocks[0].scores)))


@pytest.mark.parametrize("ties", ["worst", "middle"])
def test_the_whole_gallery_is_the_full_score(ties: str) -> None:
    """Also where many score alike: a third of the gallery stands in it twice."""
    queries, gallery = side(12, 5, 2, "x"), side(30, 6, 3, "y")
    gallery = pack([gallery[:], gallery[torch.arange(10)]])
    right = csr_array(np.random.default_rng(0).random((12, 40)) < 0.1)
    full = rank_blocks(full_blocks(queries, gallery, score=MODEL.similarity), right, gallery=40, ties=ties)
    again = rank_blocks(
        reranked_blocks(queries, gallery, score=MODEL.similarity_pairwise, depth=40), right, gallery=40, ties=ties
    )
    for name in ("queries", "best", "relevant", "retrieved", "hits"):
        torch.testing.assert_close(getattr(again, name), getattr(full, name))


def test_reranked_items_stay_ahead_at_any_score_scale() -> None:
    """Full scores far below any cosine still stand above those that were not asked."""
    queries, gallery = side(6, 3, 4, "x"), side(20, 3, 5, "y")
    for scale in (1e-6, 1.0, 1e6):
        blocks = reranked_blocks(
            queries, gallery, score=lambda a, b, scale=scale: scale * (MODEL.similarity_pairwise(a, b) - 5), depth=4
        )
        assert torch.cat([b.scores for b in blocks]).argsort(dim=1, descending=True).tolist() == loop(
            queries, gallery, 4
        )


def test_constant_scores_are_chance() -> None:
    """Alike by cosine and in full: the mean over queries is that of a draw, whatever is re-ranked."""
    size, depth = 20, 5
    flat = Embedding(torch.ones(size, 2), tower="x")
    blocks = reranked_blocks(flat, flat, score=lambda a, b: torch.zeros(len(a)), depth=depth)
    found = rank_blocks(blocks, eye_array(size, format="csr"), gallery=size, ks=(1, 10), ties="middle")
    assert found.best.mean() == (size - 1) / 2
    assert found.hit(0).mean().item() == pytest.approx(1 / size)
    assert found.hit(1).mean().item() == pytest.approx(10 / size)


def test_padding_is_bounded_by_block() -> None:
    """One sample of 300 tokens does not make a gallery of them, and no call sees more than its pairs."""
    draw = torch.Generator().manual_seed(0)
    short = side(400, 3, 6, "y")
    long = Embedding(torch.ones(1, 4), tokens=Tokens(torch.randn(1, 300, 4, generator=draw), torch.ones(1, 300) > 0),
                     tower="y")  # fmt: skip
    gallery, queries, seen = pack([short[:], long]), side(10, 3, 7, "x"), []

    def score(a: Embedding, b: Embedding) -> torch.Tensor:
        assert b.tokens is not None
        seen.append(b.tokens.mask.shape)
        return MODEL.similarity_pairwise(a, b)

    list(reranked_blocks(queries, gallery, score=score, depth=300))
    assert max(count for count, _ in seen) <= PAIRS
    assert sum(count * length for count, length in seen) < 3 * 3000 + PAIRS * 300


def test_invalid_arguments_are_errors() -> None:
    queries, gallery = side(3, 3, 8, "x"), side(5, 3, 9, "y")
    with pytest.raises(UserError, match="--rerank: expected the number of gallery items"):
        list(reranked_blocks(queries, gallery, score=MODEL.similarity_pairwise, depth=-1))
    with pytest.raises(UserError, match="x -> y: expected finite scores"):
        list(reranked_blocks(queries, gallery, score=lambda a, b: torch.full((len(a),), torch.nan), depth=2))


@pytest.fixture(scope="module")
def texts() -> Aligner:
    torch.manual_seed(0)
    towers = {name: TowerConfig(modality="text", args={"width": 16, "depth": 1, "heads": 2}) for name in ("x", "y")}
    words = ["a red disc", "a blue disc", "a green square", "the picture of a yellow square", "two cats"] * 20
    return Aligner(towers, [PairConfig("x", "y", "transport")], 8, fit_transforms(towers, {"x": words, "y": words}))


def test_an_evaluation(texts: Aligner, tmp_path: Any, unit: Callable[..., list[float]]) -> None:
    colours, shapes = ["red", "green", "blue", "black", "white"], ["disc", "square", "line", "cat", "dog", "house"]
    rows = [f"{colour} {shape}" for colour in colours for shape in shapes]
    table = tmp_path / "rows.tsv"
    table.write_text("x\ty\tsplit\n" + "".join(f"a {row}\tthe picture of one {row}\ttest\n" for row in rows))
    data = Dataset.open(DataConfig(manifest=str(table), columns={"x": "x", "y": "y"}), texts.modalities)

    def run(**options: Any) -> Any:
        return evaluate_retrieval(texts, data, a="x", b="y", split="test", bootstrap=0, batch_size=7, **options)

    full, all_of_it, some = run(), run(rerank=30), run(rerank=3)
    assert all_of_it.scores == full.scores
    assert some.scores != full.scores
    assert "the first 3 gallery items by the cosine" in some.provenance["protocol"]["rerank"]
    assert "rerank" not in full.provenance["protocol"]
    vectors = texts.encode("x", ["a red disc"]), texts.encode("y", ["the picture of one red disc"])
    torch.testing.assert_close(texts.similarity_pairwise(*vectors), texts.similarity(*vectors).diagonal())
