"""Scores of aligned rows: the diagonal of every objective's score, whatever stands beside a pair."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign import registry
from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.codebook import FdtObjective
from mmalign.objectives.contrastive import ClipObjective, SiglipObjective
from mmalign.objectives.late_interaction import LateInteractionObjective
from mmalign.objectives.objective import SQUARE, Objective
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.objectives.probabilistic import PcmeppObjective
from mmalign.objectives.transport import TransportObjective
from mmalign.types import Embedding, Tokens

DIM = 6
OBJECTIVES: dict[str, Objective] = {
    "clip": ClipObjective(),
    "siglip": SiglipObjective(),
    "fdt": FdtObjective(),
    "pcmepp": PcmeppObjective(),
    "late_interaction": LateInteractionObjective(),
    "late_interaction of parts": LateInteractionObjective(level_b="parts"),
    "transport": TransportObjective(),
    "transport, unbalanced": TransportObjective(rho_a=0.5, epsilon=0.2),
    "transport, sharp": TransportObjective(epsilon=0.01, max_iterations=200),
}


def side(count: int, longest: int, seed: int, modality: str) -> Embedding:
    """Every field, tokens and parts of 0 to `longest` real ones, with NaN where the mask is False."""
    draw = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, DIM, generator=draw), dim=-1)

    def some() -> Tokens:
        lengths = torch.randint(1, longest + 1, (count,), generator=draw)
        lengths[-1] = 0
        mask = torch.arange(longest) < lengths[:, None]
        return Tokens(unit(count, longest).masked_fill(~mask[:, :, None], torch.nan), mask)

    variance = torch.randn(count, DIM, generator=draw)
    codes = torch.rand(count, 4, generator=draw)
    return Embedding(unit(count), variance, some(), some(), codes, unit(count), modality)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("count", [1, SQUARE, 3 * SQUARE + 1])
def test_equals_the_diagonal(name: str, count: int) -> None:
    objective, a, b = OBJECTIVES[name], side(count, 7, 0, "x"), side(count, 5, 1, "y")
    for score in ("", *objective.scores):
        paired = objective.similarity_pairwise(a, b, score)
        assert paired.shape == (count,)
        torch.testing.assert_close(paired, objective.similarity(a, b, score).diagonal(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_empty_embeddings_give_no_scores(name: str) -> None:
    none = slice(0, 0)
    assert OBJECTIVES[name].similarity_pairwise(side(3, 4, 0, "x")[none], side(3, 4, 1, "y")[none]).shape == (0,)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_score_depends_on_its_pair_alone(name: str) -> None:
    """Other rows, more rows, more padding: what text i and molecule j have between them stays."""
    objective, a, b = OBJECTIVES[name], side(20, 7, 0, "x"), side(20, 5, 1, "y")
    whole, paired = objective.similarity(a, b), objective.similarity_pairwise(a, b)
    others_a, others_b = side(9, 12, 2, "x"), side(9, 15, 3, "y")
    for i, j in ((0, 0), (4, 11), (19, 2)):
        rows, columns = Embedding.cat([others_a, a[i : i + 1]]), Embedding.cat([b[j : j + 1], others_b])
        torch.testing.assert_close(objective.similarity(rows, columns)[-1, 0], whole[i, j], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            objective.similarity(a[i : i + 1], b[j : j + 1])[0, 0], whole[i, j], rtol=1e-5, atol=1e-5
        )
    beside = objective.similarity_pairwise(Embedding.cat([others_a, a]), Embedding.cat([others_b, b]))[9:]
    torch.testing.assert_close(beside, paired, rtol=1e-5, atol=1e-5)


def test_scores_of_terms_are_summed_by_their_weights() -> None:
    pairs = [
        PairConfig("x", "y", "clip", score_weight=0.25),
        PairConfig("y", "x", "transport", score_weight=2.0),
        PairConfig("x", "y", "pcmepp"),
    ]
    model, a, b = PairSum(pairs, DIM), side(20, 7, 0, "x"), side(20, 5, 1, "y")
    for left, right in ((a, b), (b, a)):
        expected = model.similarity(left, right).diagonal()
        torch.testing.assert_close(model.similarity_pairwise(left, right), expected, rtol=1e-5, atol=1e-5)
    by_hand = 0.25 * (a.vector * b.vector).sum(1) + 2 * TransportObjective().similarity(b, a).diagonal()
    torch.testing.assert_close(model.similarity_pairwise(a, b), by_hand, rtol=1e-5, atol=1e-5)


def test_modes_of_the_exchanged_pair_are_exchanged() -> None:
    model, a, b = PairSum([PairConfig("x", "y", "pcmepp")], DIM), side(20, 7, 0, "x"), side(20, 5, 1, "y")
    for left, right in ((a, b), (b, a)):
        torch.testing.assert_close(
            model.similarity_pairwise(left, right, "mean"), model.similarity(left, right, "mean").diagonal()
        )
    with pytest.raises(UserError, match="no score called 'median'"):
        model.similarity_pairwise(a, b, "median")
    with pytest.raises(UserError, match="as many rows of both towers, got 20 and 3"):
        model.similarity_pairwise(a, b[:3])
    with pytest.raises(UserError, match="no objective joins"):
        model.similarity_pairwise(a, side(20, 7, 0, "z"))


def test_external_objective_has_pairwise_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What defines a score has scores of pairs, also where its sides differ."""

    class Difference(Objective):
        def similarity(self, a: Embedding, b: Embedding) -> Tensor:  # type: ignore[override]  # knows no modes
            return a.vector.sum(1)[:, None] - 2 * b.vector.sum(1)[None]

    a, b = side(30, 2, 0, "x"), side(30, 2, 1, "y")
    expected = a.vector.sum(1) - 2 * b.vector.sum(1)
    torch.testing.assert_close(Difference().similarity_pairwise(a, b), expected)
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: Difference if name == "mine" else load(group, name))
    model = PairSum([PairConfig("x", "y", "mine")])
    for left, right in ((a, b), (b, a)):
        torch.testing.assert_close(model.similarity_pairwise(left, right), expected)
        torch.testing.assert_close(model.similarity(left, right).diagonal(), expected)


def test_the_model_scores_pairs() -> None:
    vector: dict[str, Any] = {"modality": "vector", "args": {"width": DIM}}
    towers = {"x": TowerConfig(**vector), "y": TowerConfig(**vector)}
    model = Aligner(towers, [PairConfig("x", "y")], DIM, fit_transforms(towers, {"x": [], "y": []}))
    rows = list(torch.eye(DIM).numpy())
    a, b = model.encode("x", rows), model.encode("y", rows[::-1])
    torch.testing.assert_close(model.similarity_pairwise(a, b), model.similarity(a, b).diagonal())
    torch.testing.assert_close(model.similarity_pairwise(b, a), model.similarity(b, a).diagonal())
