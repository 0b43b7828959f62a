import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.common_rows import common_rows
from mmalign.objectives.pairs.gradient_norms import GradientNorms
from mmalign.objectives.pairs.pair_config import PairConfig, factor_at
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Batch, Embedding, Mixed, Tokens

ROWS, DIM = 6, 5


def side(name: str, rows: int = ROWS) -> Embedding:
    """Every field that an objective without a codebook may read."""
    draw = torch.Generator().manual_seed(ord(name[0]))
    vector = F.normalize(torch.randn(rows, DIM, generator=draw), dim=1).requires_grad_()
    tokens = F.normalize(torch.randn(rows, 3, DIM, generator=draw), dim=2).requires_grad_()
    spread = torch.randn(rows, DIM, generator=draw).sub(3).requires_grad_()
    return Embedding(vector, spread, Tokens(tokens, torch.ones(rows, 3, dtype=torch.bool)), tower=name)


def sides(*names: str) -> dict[str, Embedding]:
    return {name: side(name) for name in names}


def batch(*names: str, groups: Tensor | None = None) -> Batch:
    places = torch.arange(ROWS)
    return Batch({}, dict.fromkeys(names, places), places, places if groups is None else groups)


def leaves(embedding: Embedding) -> list[Tensor]:
    assert embedding.tokens is not None
    assert embedding.log_variance is not None
    return [embedding.vector, embedding.log_variance, embedding.tokens.values]


class Plain(Objective):
    """The mean of side a less that of side b, and what it was called with."""

    def __init__(self, mixes: bool = False) -> None:
        super().__init__()
        self.mixes, self.calls, self.steps = mixes, [], 0

    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> Tensor:
        self.calls.append((a, b, global_batch.groups, global_batch.mixed))
        return a.vector.mean(1) - b.vector.mean(1)

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        return 10 * a.vector[:, :1] + b.vector[:, 0]

    def after_step(self) -> None:
        self.steps += 1


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objectives registered for a test: `plain`, `mixing`, and one that is none."""
    known = {"plain": Plain, "mixing": lambda: Plain(mixes=True), "odd": lambda: torch.nn.Linear(1, 1)}
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: known.get(name) or load(group, name))


def test_the_loss_is_the_weighted_sum_and_every_term_is_reported() -> None:
    groups = torch.tensor([0, 1, 0, 2, 3, 4])
    pairs = PairSum([PairConfig("x", "y", weight=0.5), PairConfig("x", "z", "siglip", weight=3.0)])
    given = sides("x", "y", "z")
    output = pairs(given, batch("x", "y", "z", groups=groups))
    losses = [
        objective(given["x"], given[name], groups).loss for objective, name in zip(pairs.objectives, "yz", strict=True)
    ]
    assert_close(output.loss, 0.5 * losses[0] + 3 * losses[1])
    assert set(output.terms) == {"x_y/loss", "x_y/scale", "x_z/loss", "x_z/scale", "x_z/bias"}
    assert_close(output.terms["x_z/loss"], losses[1].detach())
    assert not any(term.requires_grad for term in output.terms.values())


def test_a_schedule_changes_the_weight() -> None:
    pairs = PairSum([PairConfig("x", "y", weight=4.0, schedule=[[0.25, 0.0], [0.75, 1.0]]), PairConfig("x", "y")])
    for progress, factor in ((0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.75, 1.0), (1.0, 1.0)):
        pairs.progress = progress
        output = pairs(sides("x", "y"), batch("x", "y"))
        assert_close(output.terms["x_y/weight"], torch.tensor(4.0 * factor))
        first, second = output.terms["x_y/loss"], output.terms["x_y_clip/loss"]
        assert_close(output.loss, 4 * factor * first + second)  # the loss that is reported has no weight in it
        assert "x_y_clip/weight" not in output.terms


def test_term_of_weight_zero_has_zero_gradients_not_none() -> None:
    """Processes wait for each other's gradients: a weight of 0 must not take them away."""
    pairs, given = PairSum([PairConfig("x", "y", schedule=[[0.0, 0.0]])]), sides("x", "y")
    pairs(given, batch("x", "y")).loss.backward()
    assert given["x"].vector.grad is not None
    assert not given["x"].vector.grad.any()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ([], [1.0, 1.0, 1.0]),
        ([[0.5, 3.0]], [3.0, 3.0, 3.0]),
        ([[0.0, 0.0], [0.1, 1.0]], [0.0, 1.0, 1.0]),
        ([[0.0, 2.0], [0.5, 1.0], [1.0, 4.0]], [2.0, 1.0, 4.0]),
        ([[0, 1], [1, 0]], [1.0, 0.5, 0.0]),
    ],
)
def test_values_of_a_schedule(schedule: list[list[float]], expected: list[float]) -> None:
    assert [factor_at(schedule, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx(expected)
    assert factor_at(schedule, -1.0) == pytest.approx(expected[0])
    assert factor_at(schedule, 2.0) == pytest.approx(expected[2])


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            {"schedule": [[0.0]]},
            r"pair x-y: schedule: expected points \[fraction of training, factor\], got \[\[0.0\]\]",
        ),
        ({"schedule": [0.0, 1.0]}, "expected points"),
        ({"schedule": [[0.0, math.nan]]}, "expected points"),
        ({"schedule": [[0.5, 0.0], [0.1, 1.0]]}, r"from 0 to 1, ascending, got \[0.5, 0.1\]"),
        ({"schedule": [[0.1, 0.0], [0.1, 1.0]]}, "ascending"),
        ({"schedule": [[0.0, 0.0], [1000, 1.0]]}, "from 0 to 1"),
        ({"schedule": [[math.nan, 0.0]]}, "from 0 to 1"),
        ({"weight": math.inf}, "pair x-y: weight: expected a finite number, got inf"),
        ({"weight": math.nan}, "weight: expected a finite number"),
        ({"score_weight": math.nan}, "score_weight: expected a finite number"),
        ({"objective": "clipp"}, "no objective called 'clipp'; did you mean 'clip'"),
        ({"args": {"scale": 3}}, "objective 'clip': .*unexpected keyword argument 'scale'"),
        ({"args": {"initial_scale": "high"}}, "objective 'clip': .*'str'"),
        ({"objective": "odd"}, "objective 'odd' is a Linear, not an Objective"),
    ],
)
@pytest.mark.usefixtures("plain")
def test_errors_in_a_pair_configuration_are_named(named: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PairSum([PairConfig("x", "y", **named)])


def test_a_model_without_pairs_is_an_error() -> None:
    with pytest.raises(UserError, match="at least one pair, for instance: pairs:"):
        PairSum([])


@pytest.mark.parametrize(
    ("pairs", "labels"),
    [
        ([("x", "y", "clip"), ("y", "z", "clip")], ["x_y", "y_z"]),
        ([("x", "y", "clip"), ("y", "x", "clip")], ["x_y", "y_x"]),
        ([("x", "y", "clip"), ("x", "y", "siglip"), ("x", "y", "transport")], ["x_y", "x_y_siglip", "x_y_transport"]),
        ([("x", "y", "clip")] * 4, ["x_y", "x_y_clip", "x_y_clip-2", "x_y_clip-3"]),
        ([("x", "y", "clip"), ("x", "y", "clip"), ("x", "y_clip", "clip")], ["x_y", "x_y_clip", "x_y_clip_clip"]),
        ([("x_y", "z", "clip"), ("x", "y_z", "clip"), ("x", "y_z", "clip")], ["x_y_z", "x_y_z_clip", "x_y_z_clip-2"]),
        ([("x", "y-2", "clip"), ("x", "y", "clip")], ["x_y-2", "x_y"]),
        ([("x", "y", "clip"), ("x", "y_clip-2", "clip"), *[("x", "y", "clip")] * 2],
         ["x_y", "x_y_clip-2", "x_y_clip", "x_y_clip-3"]),
    ],
)  # fmt: skip
def test_each_term_has_a_name_of_its_own(pairs: list[tuple[str, str, str]], labels: list[str]) -> None:
    assert PairSum([PairConfig(*pair) for pair in pairs]).labels == labels


def test_fields_needed_of_each_tower() -> None:
    pairs = PairSum(
        [
            PairConfig("x", "y", "late_interaction", {"level_a": "parts"}),
            PairConfig("y", "x", "fdt"),
            PairConfig("z", "y", "pcmepp"),
        ]
    )
    assert pairs.needs_of("x") == {"parts", "codes"}
    assert pairs.needs_of("y") == {"tokens", "codes", "vector", "log_variance"}
    assert pairs.needs_of("z") == {"vector", "log_variance"}
    assert pairs.needs_of("alone") == {"vector"}


def test_a_score_is_the_weighted_sum_of_its_terms() -> None:
    x, y = side("x"), side("y")[:4]
    cosine, spread = x.vector @ y.vector.T, PairSum([PairConfig("x", "y", "pcmepp")]).similarity(x, y)
    for shares, expected in (
        ((None, None), cosine),
        ((None, 0.5), cosine + 0.5 * spread),
        ((0.0, 1.0), spread),
        ((2.0, -1.0), 2 * cosine - spread),
    ):
        pairs = PairSum(
            [PairConfig("x", "y", score_weight=shares[0]), PairConfig("x", "y", "pcmepp", score_weight=shares[1])]
        )
        assert_close(pairs.similarity(x, y), expected)
        assert_close(pairs.similarity(y, x), expected.T)
    with pytest.raises(UserError, match="every term between 'x' and 'y' has score_weight: 0; give one another"):
        PairSum([PairConfig("x", "y", score_weight=0.0), PairConfig("x", "y", "pcmepp")]).similarity(x, y)


@pytest.mark.usefixtures("plain")
def test_scores_depend_on_the_direction() -> None:
    x, y = side("x"), side("y")[:4]
    straight = 10 * x.vector[:, :1] + y.vector[:, 0]
    turned = (10 * y.vector[:, :1] + x.vector[:, 0]).T
    pairs = PairSum([PairConfig("x", "y", "plain"), PairConfig("y", "x", "plain", score_weight=3.0)])
    assert_close(pairs.similarity(x, y), straight + 3 * turned)
    assert_close(pairs.similarity(y, x), (straight + 3 * turned).T)
    assert pairs.between("x", "y") == (pairs.objectives[0], False)
    assert pairs.between("y", "x") == (pairs.objectives[0], True)


def test_modes_are_those_of_the_first_term() -> None:
    x, y = side("x"), side("y")[:4]
    pairs = PairSum([PairConfig("x", "y", "pcmepp"), PairConfig("x", "y", "clip", score_weight=5.0)])
    objective = pairs.objectives[0]
    assert_close(pairs.similarity(x, y, "mean"), x.vector @ y.vector.T)
    assert_close(pairs.similarity(x, y, "probability"), objective.similarity(x, y, "probability"))
    assert_close(pairs.similarity(y, x, "probability"), objective.similarity(x, y, "probability").T)
    with pytest.raises(UserError, match="no score called 'cosine' between 'x' and 'y'; known: mean, probability"):
        pairs.similarity(x, y, "cosine")
    with pytest.raises(UserError, match="known: none"):
        PairSum([PairConfig("x", "y")]).similarity(x, y, "mean")
    with pytest.raises(UserError, match="no objective joins 'x' and 'z'; this model was trained on: x-y, x-y"):
        pairs.similarity(x, side("z"))


def test_scores_that_use_only_vectors() -> None:
    def alone(*terms: tuple[str, float | None]) -> bool:
        return PairSum([PairConfig("x", "y", name, score_weight=share) for name, share in terms]).scores_of_vectors(
            "y", "x"
        )

    assert alone(("clip", None))
    assert alone(("clip", None), ("transport", None))
    assert alone(("transport", 0.0), ("siglip", 1.0))
    assert not alone(("clip", None), ("transport", 0.1))
    assert not alone(("pcmepp", None))
    assert not alone(("transport", None), ("clip", 1.0))


def test_rows_with_both_towers_are_aligned() -> None:
    """Each row holds its place in the batch."""
    rows = {"x": torch.tensor([0, 1, 3, 5]), "y": torch.tensor([1, 2, 3, 4, 5]), "z": torch.arange(6)}
    given = {name: Embedding(places[:, None].float(), tower=name) for name, places in rows.items()}
    one = Batch({}, rows, torch.arange(6), torch.arange(6))
    common = {("x", "y"): [1, 3, 5], ("y", "x"): [1, 3, 5], ("x", "z"): [0, 1, 3, 5], ("z", "z"): [0, 1, 2, 3, 4, 5]}
    for (a, b), expected in common.items():
        left, right, places = common_rows(given, one, a, b)
        assert places.tolist() == left.vector[:, 0].tolist() == right.vector[:, 0].tolist() == expected
    none = Batch({}, {"x": rows["x"], "y": torch.tensor([2, 4])}, torch.arange(6), torch.arange(6))
    assert [len(part) for part in common_rows({**given, "y": given["y"][1:3]}, none, "x", "y")] == [0, 0, 0]


@pytest.mark.usefixtures("plain")
def test_objectives_are_given_the_groups_and_mixtures_of_their_rows() -> None:
    rows = {"x": torch.tensor([0, 2, 5]), "y": torch.tensor([2, 3, 5])}
    given = {name: side(name)[places] for name, places in rows.items()}
    mixed = Mixed(torch.arange(6) + 20, torch.linspace(0, 1, 6))
    one = Batch({}, rows, torch.arange(6), torch.arange(6) + 10, {"x": mixed})
    pairs = PairSum([PairConfig("x", "y", "mixing"), PairConfig("y", "x", "mixing"), PairConfig("x", "y", "plain")])
    pairs(given, one)
    first, turned, deaf = (objective.calls[0] for objective in pairs.objectives)
    assert first[2].tolist() == [12, 15]
    assert first[3].groups.tolist() == [22, 25]
    assert_close(first[3].weight, torch.tensor([0.4, 1.0]))
    assert turned[3] is deaf[3] is None  # only rows of tower a are mixed, and only for objectives that mix
    pairs.after_step()
    assert all(objective.steps == 1 for objective in pairs.objectives)


def test_the_gradient_norm_is_that_of_the_term_alone() -> None:
    configs = [
        PairConfig("x", "y", "clip", weight=2.0),
        PairConfig("x", "y", "transport", weight=0.5, schedule=[[0.0, 0.5]]),
        PairConfig("z", "x", "pcmepp", weight=3.0),
    ]
    pairs, given = PairSum(configs), sides("x", "y", "z")
    rows = {"x": torch.arange(6), "y": torch.arange(6), "z": torch.tensor([0, 2, 3])}
    one = Batch({}, rows, torch.arange(6), torch.arange(6))

    def held() -> dict[str, Embedding]:
        return {**given, "z": given["z"][rows["z"]]}

    gradient_norms = GradientNorms()
    watched = pairs(held(), one, gradient_norms)
    assert_close(watched.loss, pairs(held(), one).loss)
    everything = [leaf for each in given.values() for leaf in leaves(each)]
    totals = torch.autograd.grad(watched.loss, everything, allow_unused=True)
    assert set(gradient_norms.norms()) == set(pairs.labels) == {"x_y", "x_y_transport", "z_x"}
    for config, label, objective in zip(configs, pairs.labels, pairs.objectives, strict=True):
        a, b, places = common_rows(held(), one, config.a, config.b)
        loss = config.weight * factor_at(config.schedule, 0.0) * objective(a, b, one.groups[places]).loss
        found = torch.autograd.grad(loss, everything, allow_unused=True)
        norm = torch.cat([part.flatten() for part in found if part is not None]).norm()
        assert_close(gradient_norms.norms()[label], norm)
        assert norm > 0
    # Watching changes nothing that flows on.
    plain = torch.autograd.grad(pairs(held(), one).loss, everything, allow_unused=True)
    for left, right in zip(totals, plain, strict=True):
        assert (left is None) == (right is None)
        assert left is None or torch.allclose(left, right)


def test_terms_without_gradient_have_no_gradient_norm() -> None:
    gradient_norms, given = GradientNorms(), sides("x", "y")
    frozen = {name: one.map(Tensor.detach) for name, one in given.items()}
    PairSum([PairConfig("x", "y")])(frozen, batch("x", "y"), gradient_norms).loss.backward()
    assert gradient_norms.norms() == {}
    half = {"x": given["x"], "y": frozen["y"]}
    PairSum([PairConfig("x", "y")])(half, batch("x", "y"), gradient_norms).loss.backward()
    assert_close(gradient_norms.norms()["x_y"], given["x"].vector.grad.norm())


def test_an_objective_must_define_loss_and_similarity() -> None:
    one = side("x")
    with pytest.raises(TypeError, match="Objective must define loss"):
        Objective()(one, one)
    with pytest.raises(TypeError, match="Objective must define similarity"):
        Objective().similarity(one, one)
