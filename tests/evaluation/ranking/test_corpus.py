"""Candidates beyond the split: a source that lists its own, what answers there, and who is left out."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import ANY

import pytest
import torch

from mmalign import registry
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record, Rejected
from mmalign.data.sources.manifest import ManifestSource
from mmalign.errors import BadSample, UserError
from mmalign.evaluation.ranking.corpus import corpora, embed_corpus
from mmalign.model import Aligner
from tests.evaluation.running import evaluate_retrieval

Make = Callable[..., Dataset]
Unit = Callable[..., list[float]]


class Listing(ManifestSource):
    """A manifest that lists a corpus."""

    lists: ClassVar[dict[str, list[Record]]] = {}

    def corpus(self, tower: str) -> Sequence[Record] | None:
        return self.lists.get(tower)


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Record]]:
    """What the source `manifest` lists by side, to be filled."""
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: Listing if group == "sources" else load(group, name))
    monkeypatch.setattr(Listing, "lists", {})
    return Listing.lists


def candidate(name: str, value: Any, side: str = "right", **more: Any) -> Record:
    return Record(name, f"corpus:{name}", {side: (value,)}, **more)


@pytest.fixture
def data(paired: Make, unit: Unit, listing: dict[str, list[Record]]) -> Dataset:
    """Four rows of the test split on a circle; each right side is listed, among others that lie between."""
    rows = [
        {"id": f"r{i}", "left": unit(1, i), "right": unit(1, i), "group": f"g{i // 2}", "split": "test"}
        for i in range(4)
    ]
    rows.append({"id": "t", "left": unit(0, 0, 1), "right": unit(0, 0, 1), "group": "g0", "split": "train"})
    listing["right"] = [
        candidate("x", unit(1, 0)),  # as good as r0's own
        candidate("r0", unit(1, 0)),
        candidate("r1", unit(1, 1.5)),  # farther from r1's left side than what follows
        candidate("y", unit(1, 1.1)),
        candidate("z", unit(1, 0.9)),
        candidate("r3", unit(1, 3)),
    ]
    return paired(rows)


def test_a_corpus_by_hand(model: Aligner, data: Dataset) -> None:
    result = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=0, gallery="corpus")
    forth, back = result.scores["left_to_right"], result.scores["right_to_left"]
    # r0 ties with x: rank 2. r1: y and z are nearer: 3. r2 is not listed: left out. r3: 1.
    assert result.details["left_to_right"].best.tolist() == [1, 2, 0]
    assert result.details["left_to_right"].queries.tolist() == [0, 1, 3]
    assert (forth["n"], forth["gallery"], forth["no_relevant_item"]) == (3, 6, 1)
    assert {"hit@1", "hit@10", "hit@100"} <= set(forth)
    assert (back["n"], back["gallery"], back["no_relevant_item"]) == (4, 4, 0)
    assert result.provenance["gallery"] == {
        "left_to_right": {"set": "corpus", "size": 6, "hash": ANY, "unusable": 0, "reasons": []},
        "right_to_left": {"set": "split", "size": 4, "hash": ANY},
    }
    middle = evaluate_retrieval(
        model, data, a="left", b="right", split="test", bootstrap=0, gallery="corpus", ties="middle"
    )
    assert middle.details["left_to_right"].best.tolist() == [0.5, 2, 0]
    assert "ties averaged" in middle.provenance["protocol"]["ranks"]


def test_the_batch_size_changes_nothing(model: Aligner, data: Dataset) -> None:
    found = [
        evaluate_retrieval(
            model, data, a="left", b="right", split="test", bootstrap=0, gallery="corpus", batch_size=size
        ).scores
        for size in (1, 4, 64)
    ]
    assert found[0] == found[1] == found[2]


def test_groups_in_a_corpus(model: Aligner, data: Dataset) -> None:
    """A candidate has the group of the row whose id it has, unless it says one itself."""
    Listing.lists["right"].append(candidate("w", [0.0] * 7 + [1.0], group="g1"))
    result = evaluate_retrieval(
        model, data, a="left", b="right", split="test", bootstrap=0, gallery="corpus", relevance="group"
    )
    # g0: r0 and r1. g1: r3 and w, which also answer the unlisted r2.
    assert result.details["left_to_right"].relevant.tolist() == [2, 2, 2, 2]


def test_equal_content_in_a_corpus(model: Aligner, paired: Make, unit: Unit, listing: dict[str, list[Record]]) -> None:
    rows = [{"id": "a", "left": unit(1), "words": "two cats"}, {"id": "b", "left": unit(0, 1), "words": "a red disc"}]
    listing["words"] = [candidate(f"c{i}", text, "words") for i, text in enumerate(["two cats", "two cats", "a dog"])]
    listing["words"].append(candidate("b", "a blue disc", "words"))
    data = paired(rows, ("left", "words"))
    ask = {"a": "left", "b": "words", "split": "test", "bootstrap": 0, "gallery": "corpus"}
    pair = evaluate_retrieval(model, data, **ask)
    assert pair.details["left_to_words"].queries.tolist() == [1]
    content = evaluate_retrieval(model, data, **ask, relevance="content")
    assert content.details["left_to_words"].relevant.tolist() == [2, 1]


def test_content_relevance_includes_items_of_equal_records(
    model: Aligner, paired: Make, unit: Unit, listing: dict[str, list[Record]]
) -> None:
    """Under content, what its row has on the other side counts: two rows of one sentence answer each other's."""
    rows = [{"id": name, "left": unit(1, i), "words": "two cats"} for i, name in enumerate("ab")]
    rows.append({"id": "c", "left": unit(1, 5), "words": "a red disc"})
    listing["left"] = [candidate(name, unit(1, i), "left") for i, name in enumerate(["b", "a", "x"])]
    ask = {"a": "words", "b": "left", "split": "test", "bootstrap": 0, "gallery": "corpus"}
    found = evaluate_retrieval(model, paired(rows, ("left", "words")), **ask, relevance="content")
    assert found.details["words_to_left"].relevant.tolist() == [2, 2]
    assert found.scores["words_to_left"]["no_relevant_item"] == 1


def test_unusable_corpus_records_are_reported(model: Aligner, data: Dataset) -> None:
    Listing.lists["right"][3] = candidate("y", "no-such-file.npy")
    problem = Rejected("corpus:z", "z", "right", "", "expected something else, got this")
    Listing.lists["right"][4] = candidate("z", [0.0] * 8, problem=problem)
    ask = {"a": "left", "b": "right", "split": "test", "bootstrap": 0, "gallery": "corpus"}
    result = evaluate_retrieval(model, data, **ask, batch_size=2)
    assert result.details["left_to_right"].best.tolist() == [1, 0, 0]
    kept = result.provenance["gallery"]["left_to_right"]
    assert (kept["size"], kept["unusable"]) == (4, 2)
    assert "no-such-file.npy" in kept["reasons"][0]
    assert "something else" in kept["reasons"][1]
    Listing.lists["right"][:] = [Listing.lists["right"][3]]
    with pytest.raises(UserError, match="none of the 1 corpus records of 'right' can be used"):
        evaluate_retrieval(model, data, **ask)


def test_decoded_corpus_records_are_released(model: Aligner, data: Dataset) -> None:
    before = data.store.used_bytes
    records = corpora(data, ("left", "right"), "corpus")["right"]
    made = embed_corpus(model, data, "right", records, batch_size=2)
    assert data.store.used_bytes == before
    assert made.embedded.record_indices.tolist() == list(range(6))
    direct = model.encode("right", [record.values["right"][0] for record in records])
    torch.testing.assert_close(made.embedded.embedding.vector, direct.vector)


def test_corpus_uses_read_many(
    model: Aligner, paired: Make, unit: Unit, listing: dict[str, list[Record]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A modality that reads many values at once is asked once, in the folder named; a bad one is as bad as alone."""
    asked: list[tuple[Path, list[str]]] = []

    class Many(list[str]):
        def __getitem__(self, place: Any) -> Any:
            if place == 2:
                raise BadSample("store:2", "a sentence", "nonsense")
            return super().__getitem__(place)

    class ReadingMany(type(model.modalities["words"])):  # type: ignore[misc]
        # A class of its own: Python remembers of a class that it has had a protocol's methods.
        def read_many(self, sources: list[str], cache: Path, workers: int = 0) -> tuple[Many, dict[int, BadSample]]:
            asked.append((cache, sources))
            return Many(sources), {}

    monkeypatch.setitem(model.modalities, "words", ReadingMany())
    rows = [{"id": f"r{i}", "left": unit(1, i), "words": words} for i, words in enumerate(["two cats", "a red disc"])]
    data = paired(rows, ("left", "words"))
    texts = ["a red disc", "two cats", "?", "a blue disc"]
    records = [candidate(f"r{i}", text, "words") for i, text in enumerate(texts)]
    alone = embed_corpus(model, data, "words", records, batch_size=3)
    assert not asked
    monkeypatch.setenv("MMALIGN_CACHE", str(tmp_path))
    data = paired(rows, ("left", "words"))
    asked.clear()  # its own rows
    made = embed_corpus(model, data, "words", records, batch_size=3)
    assert asked == [(tmp_path, texts)]
    assert made.embedded.record_indices.tolist() == [0, 1, 3]
    assert "corpus:r2 words: expected a sentence, got nonsense" in made.rejected[0]
    expected = alone.embedded.embedding.vector[[0, 1, 3]]
    torch.testing.assert_close(made.embedded.embedding.vector, expected)


def test_a_source_without_corpus_is_an_error(model: Aligner, paired: Make, random_rows: Callable[..., Any]) -> None:
    data = paired(random_rows(4))
    with pytest.raises(UserError, match="source 'manifest' lists no corpus of left or right"):
        evaluate_retrieval(model, data, a="left", b="right", split="test", gallery="corpus")
    with pytest.raises(UserError, match="did you mean 'corpus'"):
        evaluate_retrieval(model, data, a="left", b="right", split="test", gallery="corpora")


def test_queries_of_seen_groups_are_excluded(model: Aligner, data: Dataset) -> None:
    """The training row is of group g0, and so are r0 and r1; they stay in the gallery."""
    result = evaluate_retrieval(model, data, a="left", b="right", split="test", bootstrap=0, exclude_seen_groups=True)
    for name in ("left_to_right", "right_to_left"):
        assert result.scores[name]["seen_in_training"] == 2
        assert (result.scores[name]["n"], result.scores[name]["gallery"]) == (2, 4)
        assert result.details[name].queries.tolist() == [0, 1]  # of the remaining ones: r2 and r3
        assert result.details[name].best.tolist() == [0, 0]
    assert "training" in result.provenance["protocol"]["exclude_seen_groups"]
    with pytest.raises(UserError, match="every training record, and split .train. contains them"):
        evaluate_retrieval(model, data, a="left", b="right", split="train", exclude_seen_groups=True)


def test_excluding_seen_groups_needs_groups(model: Aligner, paired: Make, random_rows: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"no record has a group; name its column with --data\.columns\.group"):
        evaluate_retrieval(model, paired(random_rows(4)), a="left", b="right", split="test", exclude_seen_groups=True)
    rows = [row | {"group": "g"} for row in random_rows(4)]
    rows[0]["split"] = "train"
    with pytest.raises(UserError, match="the group of every query"):
        evaluate_retrieval(model, paired(rows), a="left", b="right", split="test", exclude_seen_groups=True)


def test_the_printed_table_equals_the_result(
    model: Aligner, data: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    ask = {"a": "left", "b": "right", "split": "test", "bootstrap": 0, "gallery": "corpus", "exclude_seen_groups": True}
    result = evaluate_retrieval(model, data, **ask, ks=(1, 2))
    result.show()
    said = capsys.readouterr().out
    for words in (
        "left -> right: gallery of 6 items, the corpus", "right -> left: gallery of 4 items, the split",
        "ties are resolved pessimistically",
        "test of manifest: 4 rows, 0 rejected", "seen in training", "no relevant item", "hit@2",
    ):  # fmt: skip
        assert words in said
    kept = json.loads(json.dumps(result.to_json()))["provenance"]
    assert kept["rows"] == {
        "source": "manifest",
        "options": {},
        "used": 4,
        "rejected": 0,
        "incomplete": 0,
        "reasons": [],
    }


def test_rejected_rows_are_counted(model: Aligner, paired: Make, unit: Unit) -> None:
    rows = [{"id": f"r{i}", "left": unit(1, i), "right": unit(1, i)} for i in range(200)]
    rows[7]["id"] = "r6"
    del rows[9]["right"]
    result = evaluate_retrieval(model, paired(rows), a="left", b="right", split="test", bootstrap=0)
    counts = result.provenance["rows"]
    assert (counts["used"], counts["rejected"], counts["incomplete"]) == (198, 1, 1)
    assert "expected an id of its own" in counts["reasons"][0]
    assert "expected a value in column 'right'" in counts["reasons"][1]


def test_invalid_ks_are_errors(model: Aligner, data: Dataset) -> None:
    for ks in ([0, 1], [5, 5]):
        with pytest.raises(UserError, match="--ks: expected different lengths"):
            evaluate_retrieval(model, data, a="left", b="right", split="test", ks=ks)
