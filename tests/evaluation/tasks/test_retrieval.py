"""Retrieval through a real model and real data: protocol by hand, relevance, intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import mmalign
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit, embed_split
from mmalign.embedding.scoring import first_answers
from mmalign.errors import UserError
from mmalign.evaluation.ranking.ranks import Ranks
from mmalign.evaluation.ranking.relevance import RelevanceMatrix
from mmalign.evaluation.tasks.retrieval import retrieval_scores
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.types import Embedding
from tests.evaluation.running import evaluate_retrieval

Rows = Callable[..., list[dict[str, Any]]]
Make = Callable[..., Dataset]


def test_a_table_by_hand(model: Aligner, paired: Make, unit: Callable[..., list[float]]) -> None:
    """Three pairs in a plane: the third's left side lies nearest to the first's right side."""
    rows = [
        {"left": unit(1, 0), "right": unit(1, 0)},
        {"left": unit(0, 1), "right": unit(0.1, 1)},
        {"left": unit(1, 0.1), "right": unit(-1, 0)},
    ]
    result = evaluate_retrieval(model, paired(rows), a="left", b="right", split="test", bootstrap=0)
    forward, back = result.scores["left_to_right"], result.scores["right_to_left"]
    # left -> right: ranks 1, 1, 3. right -> left: 1, 1, 2: only the second's left is nearer.
    assert forward["hit@1"] == pytest.approx(2 / 3)
    assert forward["hit@5"] == forward["hit@10"] == 1
    assert forward["mrr"] == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert forward["median_rank"] == 1
    assert forward["mean_rank"] == pytest.approx(5 / 3)
    assert (forward["n"], forward["gallery"]) == (3, 3)
    assert back["mean_rank"] == pytest.approx(4 / 3)
    assert not [name for name in forward if name.endswith("_ci")]


def test_equal_embeddings_give_no_hit(model: Aligner, paired: Make, unit: Callable[..., list[float]]) -> None:
    """All embeddings equal: every score ties, and no query has a hit."""
    rows = [{"left": unit(1), "right": unit(1)} for _ in range(20)]
    result = evaluate_retrieval(model, paired(rows), a="left", b="right", split="test", bootstrap=10)
    scores = result.scores["left_to_right"]
    assert scores["hit@10"] == 0
    assert scores["median_rank"] == 20


def test_records_without_a_tower_are_no_queries(model: Aligner, paired: Make, random_rows: Rows) -> None:
    rows = [row | {"words": "two cats"} for row in random_rows(6)]
    del rows[2]["right"]
    data = paired(rows, ("left", "right", "words"))
    result = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=10)
    assert (result.scores["left_to_right"]["n"], result.scores["left_to_right"]["gallery"]) == (5, 5)
    assert (result.scores["right_to_left"]["n"], result.scores["right_to_left"]["gallery"]) == (5, 6)


def test_several_captions(model: Aligner, paired: Make, unit: Callable[..., list[float]]) -> None:
    """Every caption is in the gallery, any one is a hit, recall divides by all; every caption asks back."""
    captions = ["a red disc", "two cats", "a blue disc"]
    rows = [{"left": unit(1), "words": captions[:2]}, {"left": unit(0, 1), "words": captions[2:]}]
    data = paired(rows, ("left", "words"))
    result = evaluate_retrieval(model, data, a="left", b="words", split="test", bootstrap=10, ks=(1, 2))
    scores = model.encode("left", [unit(1), unit(0, 1)]).vector @ model.encode("words", captions).vector.T
    expected_hits, expected_recall = [], []
    for row, good in zip(scores.tolist(), ([0, 1], [2]), strict=True):
        first = np.argsort([-score for score in row])[:2]
        expected_hits.append(int(first[0]) in good)
        expected_recall.append(sum(int(place) in good for place in first) / len(good))
    assert result.scores["left_to_words"]["hit@1"] == np.mean(expected_hits)
    assert result.scores["left_to_words"]["recall@2"] == np.mean(expected_recall)
    assert (result.scores["left_to_words"]["n"], result.scores["left_to_words"]["gallery"]) == (2, 3)
    assert (result.scores["words_to_left"]["n"], result.scores["words_to_left"]["gallery"]) == (3, 2)


def test_exchanging_the_towers_exchanges_the_directions(model: Aligner, paired: Make, random_rows: Rows) -> None:
    """Swapping a and b swaps the directions and nothing else."""
    data = paired(random_rows(40))
    one = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=20).scores
    two = evaluate_retrieval(model, data, a="right", b="left", split="test", bootstrap=20).scores
    assert one == two


def sides(asking: list[int], answering: list[int]) -> tuple[EmbeddedSplit, EmbeddedSplit]:
    def side(rows: list[int], name: str) -> EmbeddedSplit:
        return EmbeddedSplit(Embedding(torch.zeros(len(rows), 2), tower=name), torch.tensor(rows))

    return side(asking, "left"), side(answering, "words")


def record(left: str, words: tuple[str, ...], group: str | None = None) -> Record:
    return Record("", "", {"left": (left,), "words": words}, group=group)


RECORDS = [
    record("0.npy", ("one", "uno"), "g"),
    record("1.npy", ("one",), "h"),
    record("2.npy", ("uno", "due"), "g"),
    record("2.npy", ("tre",)),
]


@pytest.mark.parametrize(
    ("relevance", "relevant"),
    [
        # gallery: one, uno | one | uno, due | tre
        ("record", [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]),
        # the last two records are one file with other words: what answers one answers the other
        ("content", [[1, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0], [0, 1, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]]),
        ("group", [[1, 1, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]),
    ],
)
def test_relevance(relevance: str, relevant: list[list[int]]) -> None:
    queries, gallery = sides([0, 1, 2, 3], [0, 0, 1, 2, 2, 3])
    forward = RelevanceMatrix(queries, gallery, RECORDS, relevance=relevance)
    assert (forward[0:4].toarray() > 0).astype(int).tolist() == relevant
    assert (forward[1:3].toarray() > 0).astype(int).tolist() == relevant[1:3]
    back = RelevanceMatrix(gallery, queries, RECORDS, relevance=relevance)
    assert (back[0:6].toarray() > 0).astype(int).T.tolist() == relevant


def test_wrong_relevance_is_refused() -> None:
    queries, gallery = sides([3], [3])
    with pytest.raises(UserError, match="did you mean 'group'"):
        RelevanceMatrix(queries, gallery, RECORDS, relevance="groups")
    with pytest.raises(UserError, match=r"--data\.columns\.group"):
        RelevanceMatrix(queries, gallery, [record("a", ("b",))] * 4, relevance="group")


def test_group_relevance_counts_items_of_the_group(
    model: Aligner, paired: Make, unit: Callable[..., list[float]]
) -> None:
    """Two records of equal content: under `pair` each loses to the other, under `group` none does."""
    rows = [
        {"left": unit(1), "right": unit(1), "group": "x"},
        {"left": unit(1), "right": unit(1), "group": "x"},
        {"left": unit(0, 1), "right": unit(0, 1), "group": "y"},
    ]
    data = paired(rows)
    pair = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=0)
    group = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=0, relevance="group")
    assert pair.scores["left_to_right"]["hit@1"] == pytest.approx(1 / 3)
    assert group.scores["left_to_right"]["hit@1"] == 1
    assert group.scores["left_to_right"]["recall@1"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert group.provenance["protocol"]["relevance"].startswith("group")


def test_intervals_surround_their_scores(model: Aligner, paired: Make, random_rows: Rows) -> None:
    data = paired(random_rows(200, noise=0.8))
    result = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=300)
    for scores in result.scores.values():
        names = [name for name in scores if f"{name}_ci" in scores]
        assert set(names) == {*(f"{kind}@{k}" for kind in ("hit", "recall") for k in (1, 5, 10)),
                              "mrr", "median_rank", "mean_rank"}  # fmt: skip
        for name in names:
            low, high = scores[f"{name}_ci"]
            assert low <= scores[name] <= high
        assert 0 < scores["hit@1_ci"][0] < scores["hit@1_ci"][1] < 1
    again = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=300)
    assert again.scores == result.scores
    other = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=300, seed=1)
    assert other.scores["left_to_right"]["mrr_ci"] != result.scores["left_to_right"]["mrr_ci"]
    assert other.scores["left_to_right"]["mrr"] == result.scores["left_to_right"]["mrr"]


def test_captions_of_one_record_are_drawn_together() -> None:
    """Five captions that rise and fall with their record say no more than one: the interval must not shrink."""
    outcome = torch.tensor([0, 5] * 20)
    single = Ranks(torch.arange(40), outcome, torch.ones(40), torch.zeros(40, 1), (1,), 40)
    many = Ranks(torch.arange(200), outcome.repeat_interleave(5), torch.ones(200), torch.zeros(200, 1), (1,), 40)
    one = retrieval_scores(single, torch.arange(40))["hit@1_ci"]
    assert retrieval_scores(many, torch.arange(40).repeat_interleave(5))["hit@1_ci"] == pytest.approx(one)
    alone = retrieval_scores(many, torch.arange(200))["hit@1_ci"]
    assert alone[1] - alone[0] < 0.6 * (one[1] - one[0])


def test_lists_longer_than_the_gallery(model: Aligner, paired: Make, random_rows: Rows) -> None:
    data = paired(random_rows(3))
    result = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=10, ks=(3, 50))
    assert result.scores["left_to_right"]["hit@50"] == result.scores["left_to_right"]["recall@50"] == 1


def test_errors(model: Aligner, paired: Make, random_rows: Rows) -> None:
    data = paired(random_rows(4))
    with pytest.raises(UserError, match="every record has one"):
        evaluate_retrieval(model, data, a="left", b="left", split="test")
    with pytest.raises(UserError, match="no record of split 'validation' has a 'left'"):
        evaluate_retrieval(model, data, a="left", b="right", split="validation")


def test_unpaired_towers_are_compared_with_a_note_in_the_result(
    model: Aligner, paired: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    data = paired([{"right": [1.0] * 8, "words": "two cats"}], ("right", "words"))
    result = mmalign.evaluate(model, data, "retrieval", pair=("right", "words"), split="test", bootstrap=10)
    note = "cosine; right and words were never paired, the space is shared through left"
    assert result.provenance["protocol"]["similarity"] == note
    result.show()
    assert note in " ".join(capsys.readouterr().out.split())


def test_the_best_scores_come_first(model: Aligner, paired: Make, random_rows: Rows) -> None:
    data = paired(random_rows(30))
    left, right = (embed_split(model, data, side, "test").embedding for side in ("left", "right"))
    scores, places = first_answers(left, right, score=model.similarity, k=4)
    expected = model.similarity(left, right).sort(dim=1, descending=True)
    torch.testing.assert_close(scores, expected.values[:, :4])
    torch.testing.assert_close(places, expected.indices[:, :4])


def test_real_digits() -> None:
    """1,797 real digits, an untrained model: figures near chance, relevance by content counts shared sentences."""
    towers = {
        "image": TowerConfig(encoder="convnet", args={"width": 4}),
        "text": TowerConfig(args={"width": 16, "depth": 1, "heads": 2}),
    }
    from mmalign.model import modality_of

    modalities = {side: modality_of(side, tower) for side, tower in towers.items()}
    data = Dataset.open(DataConfig("digits"), modalities, splits=["validation"])
    transforms = fit_transforms(towers, {side: list(data.split("validation").samples(side)) for side in towers})
    model = Aligner(towers, [PairConfig("image", "text")], 16, transforms)
    found = evaluate_retrieval(model, data, a="image", b="text", split="validation", relevance="content", bootstrap=20)
    pictures = len(data.split("validation").records)
    assert found.scores["image_to_text"]["n"] == pictures
    assert found.scores["image_to_text"]["gallery"] == found.scores["text_to_image"]["n"] == 5 * pictures
    ranks = found.details["image_to_text"]
    per_class = {name: sum(r.labels == (name,) for r in data.split("validation").records) for name in ("one", "nine")}
    own = [record.labels[0] for record in data.split("validation").records]
    for place, name in enumerate(own):
        if name in per_class:
            assert int(ranks.relevant[place]) == 5 * per_class[name]
    assert found.scores["image_to_text"]["hit@1"] < 0.5
    assert found.scores["image_to_text"]["recall@10"] < 0.06  # ten of about 180 right answers at most
