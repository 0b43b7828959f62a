"""Towers that were never paired: which chain joins them, and by what they are compared."""

import pytest
import torch

from mmalign import Embedding, UserError
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.objectives.parts.shared_space import path_between


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["ab"], None),
        (["ab", "bc"], ["a", "b", "c"]),
        (["cb", "ba"], ["a", "b", "c"]),
        (["ab", "bd", "dc", "bc"], ["a", "b", "c"]),
        (["ab", "dc"], None),
        (["ab", "bd", "de", "ec"], ["a", "b", "d", "e", "c"]),
    ],
)
def test_path_between_towers_is_the_shortest(pairs: list[str], expected: list[str] | None) -> None:
    assert path_between([(one, other) for one, other in pairs], "a", "c") == expected


def test_a_tower_and_itself() -> None:
    assert path_between([("a", "b")], "a", "a") == ["a"]
    assert path_between([("a", "b")], "z", "z") is None


def rows(tower: str, seed: int) -> Embedding:
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    return Embedding(torch.nn.functional.normalize(values, dim=1), tower=tower)


def test_objectives_without_vectors_cannot_be_compared() -> None:
    pairs = PairSum([PairConfig("a", "b", "fdt"), PairConfig("c", "b", "fdt")], 6)
    with pytest.raises(UserError, match="'a' and 'c' were never paired, and the objectives of 'a' train no vector"):
        pairs.similarity(rows("a", 0), rows("c", 1))


def test_another_score_needs_an_objective() -> None:
    pairs = PairSum([PairConfig("a", "b", "pcmepp"), PairConfig("c", "b", "pcmepp")], 6)
    with pytest.raises(UserError, match="no objective joins 'a' and 'c'"):
        pairs.similarity(rows("a", 0), rows("c", 1), "probability")
    torch.testing.assert_close(
        pairs.similarity(rows("a", 0), rows("c", 1)), rows("a", 0).vector @ rows("c", 1).vector.T
    )


def test_trained_pairs_keep_their_own_score() -> None:
    """A pair whose score is no cosine is not touched by the rule for towers without one."""
    pairs = PairSum([PairConfig("a", "b", "pcmepp"), PairConfig("c", "b")], 6)
    a, b = rows("a", 0), rows("b", 1)
    a, b = (Embedding(one.vector, torch.zeros(4, 6), tower=one.tower) for one in (a, b))
    torch.testing.assert_close(pairs.similarity(a, b), pairs.objectives[0].similarity(a, b))
    assert not torch.allclose(pairs.similarity(a, b), a.vector @ b.vector.T)
