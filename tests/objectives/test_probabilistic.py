import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.functional import (
    inclusion_loss,
    information_bottleneck,
    pcmepp_loss,
    prolip_loss,
)
from mmalign.objectives.probabilistic import PcmeppObjective, ProlipObjective
from mmalign.types import Embedding, Mixed
from tests.reference import probabilistic as reference

ROWS, DIM = 6, 5
GROUPS = torch.tensor([1, 1, 2, 3, 3, 3])
EITHER = pytest.mark.parametrize("kind", [PcmeppObjective, ProlipObjective])


def side(seed: int, rows: int = ROWS, *, spread: float = -2.0, dtype: torch.dtype = torch.float64) -> Embedding:
    draw = torch.Generator().manual_seed(seed)
    mean = F.normalize(torch.randn(rows, DIM, generator=draw, dtype=torch.float64), dim=1)
    log_variance = spread + torch.randn(rows, DIM, generator=draw, dtype=torch.float64)
    return Embedding(mean.to(dtype).requires_grad_(), log_variance=log_variance.to(dtype).requires_grad_())


def parts(*sides: Embedding) -> list[Tensor]:
    return [value for one in sides for value in (one.vector, one.log_variance)]  # type: ignore[misc]


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("reduction", ["pairs", "rows"])
def test_pcmepp_equals_the_pure_loss_and_the_bottleneck(groups: Tensor | None, reduction: str) -> None:
    a, b = side(1), side(2)
    objective = PcmeppObjective(4.0, 3.0, pseudo_weight=0.3, bottleneck=0.2, reduction=reduction).double()  # type: ignore[arg-type]
    output = objective(a, b, groups)
    named = {"groups_a": groups, "groups_b": groups, "pseudo_weight": 0.3, "reduction": reduction}
    scale, bias = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (4.0, 3.0))
    price = information_bottleneck(*parts(a)) + information_bottleneck(*parts(b))
    wanted = pcmepp_loss(*parts(a, b), scale=scale, bias=bias, **named) + 0.2 * price
    assert_close(output.loss, wanted, rtol=1e-7, atol=0)
    assert_close(output.terms["bottleneck"], price.detach())
    assert_close(output.terms["log_variance_a"], a.log_variance.detach().mean())
    assert_close(output.terms["log_variance_b"], b.log_variance.detach().mean())
    found = torch.autograd.grad(output.loss, [*parts(a, b), objective.log_scale, objective.bias])
    expected = torch.autograd.grad(wanted, [*parts(a, b), scale, bias])
    assert_close(found[:4], expected[:4], rtol=1e-6, atol=1e-9)
    assert_close(found[4], 4.0 * expected[4], rtol=1e-6, atol=1e-9)  # of the scale's logarithm
    assert_close(found[5], expected[5], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_mixed_samples_equal_the_paper_written_as_loops(groups: Tensor | None, dtype: torch.dtype) -> None:
    a, b = side(1), side(2)
    own = list(range(ROWS)) if groups is None else groups.tolist()
    other, weight = own[::-1], [0.7, 1.0, 0.25, 0.5, 0.9, 0.0]
    targets = [
        [weight[i] * (own[i] == group) + (1 - weight[i]) * (other[i] == group) for group in own] for i in range(ROWS)
    ]
    objective = PcmeppObjective(4.0, 3.0, pseudo_weight=0.3, bottleneck=0.0).double()
    mixed = Mixed(torch.tensor(other), torch.tensor(weight, dtype=dtype))
    distance = reference.distances(*(part.detach().numpy() for part in parts(a, b)))
    loss = objective(a, b, groups, mixed=mixed).loss
    assert_close(float(loss.detach()), reference.pcmepp_loss(distance, targets, 4.0, 3.0, 0.3), rtol=1e-6, atol=0)
    loss.backward()
    half = Mixed(mixed.groups, mixed.weight.double())
    single = PcmeppObjective()(a.to(torch.float32), b.to(torch.float32), groups, mixed=half).loss
    assert single.dtype == torch.float32


def test_samples_that_are_not_mixed_are_as_they_were() -> None:
    a, b, objective = side(1), side(2), PcmeppObjective()
    whole = Mixed(GROUPS.flip(0), torch.ones(ROWS))
    assert_close(objective(a, b, GROUPS, mixed=whole).loss, objective(a, b, GROUPS).loss)
    assert objective.mixes
    assert not ProlipObjective().mixes


@pytest.mark.parametrize("weight", [[0.5, -0.1], [0.5, 1.1], [0.5, math.nan], [0.5]])
def test_impossible_shares_are_refused(weight: list[float]) -> None:
    with pytest.raises(UserError, match="mixed: expected one group and one weight from 0 to 1 for each of 2 rows"):
        PcmeppObjective()(side(1, 2), side(2, 2), mixed=Mixed(torch.arange(2), torch.tensor(weight)))


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_prolip_equals_the_pure_losses(groups: Tensor | None) -> None:
    a, b = side(1), side(2)
    objective = ProlipObjective(7.0, -2.0, inclusion=0.4, inclusion_scale=3.0, bottleneck=0.2).double()
    output = objective(a, b, groups)
    price = information_bottleneck(*parts(a)) + information_bottleneck(*parts(b))
    outside = inclusion_loss(*parts(a, b), scale=3.0)
    pairs = prolip_loss(*parts(a, b), scale=7.0, bias=-2.0, groups_a=groups, groups_b=groups)
    assert_close(output.loss, pairs + 0.4 * outside + 0.2 * price, rtol=1e-6, atol=0)
    assert_close(output.terms["inclusion"], outside.detach())
    assert_close(output.terms["bottleneck"], price.detach())
    assert "inclusion" not in ProlipObjective()(a, b).terms


def test_prolip_takes_its_bias_from_the_first_batch() -> None:
    objective = ProlipObjective()
    assert float(objective(side(1), side(2)).terms["bias"]) == pytest.approx(-math.log(ROWS - 1))
    assert float(objective(side(1, 3), side(2, 3)).terms["bias"]) == pytest.approx(-math.log(ROWS - 1))


def test_inclusion_loss_increases_the_general_variance_and_decreases_the_other() -> None:
    """Side a is to lie inside side b: a picture inside its sentence."""
    narrow, broad = side(1, spread=-4.0), side(1, spread=-1.0)
    objective = ProlipObjective(inclusion=1.0, bottleneck=0.0, inclusion_scale=1.0)

    def outside(a: Embedding, b: Embedding) -> Tensor:
        return objective(a, b).terms["inclusion"]

    assert outside(narrow, broad) < math.log(2) < outside(broad, narrow)
    assert_close(outside(narrow, narrow), torch.tensor(math.log(2), dtype=torch.float64))
    same = side(1, spread=-3.0)
    twin = Embedding(same.vector, log_variance=same.log_variance.detach().clone().requires_grad_())
    alone = objective(same, twin).loss - ProlipObjective(bottleneck=0.0)(same, twin).loss
    grad_a, grad_b = torch.autograd.grad(alone, (same.log_variance, twin.log_variance))
    assert (grad_a > 0).all()
    assert (grad_b < 0).all()


@EITHER
def test_modes(kind: type[PcmeppObjective] | type[ProlipObjective]) -> None:
    objective, a, b = kind(initial_scale=2.0, initial_bias=0.5).double(), side(1), side(2, 4)
    assert objective.scores == ("mean", "probability")
    assert_close(objective.similarity(a, b, "mean"), a.vector @ b.vector.T)
    distance = torch.tensor(reference.distances(*(part.detach().numpy() for part in parts(a, b))), dtype=torch.float64)
    score = -distance if kind is PcmeppObjective else 1 - distance / 2  # for unit means
    assert_close(objective.similarity(a, b), score, rtol=1e-6, atol=1e-8)
    probability = objective.similarity(a, b, "probability")
    assert_close(probability, torch.sigmoid(2 * score + 0.5), rtol=1e-6, atol=1e-8)
    assert ((probability > 0) & (probability < 1)).all()
    assert (probability.argsort(1) == score.argsort(1)).all()


@EITHER
def test_the_score_is_what_was_trained(kind: type[PcmeppObjective] | type[ProlipObjective]) -> None:
    """A positive and a negative pair, by the probability that the score gives: the loss follows."""
    objective, a, b = kind(initial_bias=0.5, bottleneck=0.0).double(), side(1, 2), side(2, 2)
    if isinstance(objective, PcmeppObjective):
        objective.pseudo_weight = 0.0
    p = objective.similarity(a, b, "probability")
    match = torch.eye(2, dtype=torch.float64)
    each = F.binary_cross_entropy(p, match, reduction="sum")
    assert_close(objective(a, b).loss, each * 2 / 4 if kind is PcmeppObjective else each / 2, rtol=1e-6, atol=0)


def test_appending_one_coordinate_makes_the_score_a_euclidean_distance() -> None:
    """So that an index of nearest neighbours ranks as the objective does: gallery [mu, sqrt(sum of variances)]."""
    a, b = side(1, 20, spread=-3.0), side(2, 50, spread=-3.0)
    query = F.pad(a.vector, (0, 1))
    gallery = torch.cat([b.vector, b.uncertainty.sqrt()[:, None]], 1)
    nearest = torch.cdist(query, gallery, compute_mode="donot_use_mm_for_euclid_dist").argsort(1)
    for objective in (PcmeppObjective(), ProlipObjective()):
        assert (objective.similarity(a, b).argsort(1, descending=True) == nearest).all()
    assert not (PcmeppObjective().similarity(a, b, "mean").argsort(1, descending=True) == nearest).all()


def test_uncertainty_is_the_sum_of_the_variances() -> None:
    one = side(1)
    wanted = [math.fsum(math.exp(value) for value in row) for row in one.log_variance.tolist()]
    assert_close(one.uncertainty, torch.tensor(wanted, dtype=torch.float64))
    wild = Embedding(torch.eye(2), log_variance=torch.tensor([[1e4, -1e4], [0.0, 0.0]]))
    assert_close(wild.uncertainty, torch.tensor([math.exp(10.0) + math.exp(-20.0), 2.0]))
    with pytest.raises(UserError, match="no log_variance"):
        _ = Embedding(torch.eye(2)).uncertainty


@EITHER
def test_extreme_log_variances_are_finite_and_keep_a_gradient_inwards(
    kind: type[PcmeppObjective] | type[ProlipObjective],
) -> None:
    a, b = side(1, dtype=torch.float32), side(2, dtype=torch.float32)
    for value in (1e4, -1e4):
        wild = Embedding(a.vector, log_variance=torch.full_like(a.vector, value).requires_grad_())
        for pair in ((wild, b), (b, wild)):
            loss = kind(bottleneck=0.1)(*pair).loss
            (gradient,) = torch.autograd.grad(loss, wild.log_variance)
            assert loss.isfinite()
            assert gradient.isfinite().all()
            assert (gradient * value > 0).all()  # a step down goes back


@EITHER
def test_a_log_variance_keeps_its_precision_next_to_a_float32_vector(
    kind: type[PcmeppObjective] | type[ProlipObjective],
) -> None:
    a, b = side(1, dtype=torch.float32), side(2, dtype=torch.float32)
    short = [Embedding(one.vector.bfloat16(), log_variance=one.log_variance) for one in (a, b)]
    long = [Embedding(one.vector.float(), log_variance=one.log_variance) for one in short]
    objective = kind().eval()
    assert_close(objective(*short).loss, objective(*long).loss, rtol=1e-6, atol=0)


@EITHER
def test_wrong_settings_and_missing_heads_are_named(kind: type[PcmeppObjective] | type[ProlipObjective]) -> None:
    with pytest.raises(UserError, match="weights must not be below 0"):
        kind(bottleneck=-1.0)
    plain = Embedding(torch.eye(3), tower="sound")
    with pytest.raises(UserError, match="sound have no log_variance"):
        kind()(plain, plain)
    with pytest.raises(UserError, match="no log_variance"):
        kind().similarity(plain, plain)
    with pytest.raises(UserError, match="reduction must be pairs or rows, got 'mean'"):
        PcmeppObjective(reduction="mean")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="weights must not be below 0"):
        PcmeppObjective(pseudo_weight=-0.1)
    with pytest.raises(UserError, match="weights must not be below 0"):
        ProlipObjective(inclusion=-0.1)


@EITHER
def test_gradients_of_variances_do_not_depend_on_which_item_is_the_positive(
    kind: type[PcmeppObjective] | type[ProlipObjective],
) -> None:
    """They see the number of positives alone, so they cannot learn how far a sample lies from its partner.

    The loss depends on a sample's variances through a bias of its logits; the derivative of that bias is the sum over
    the row of match probabilities less labels. The means do see which item it is.
    """
    a, b = side(1), side(2)
    partner = torch.tensor([3, 0, 4, 1, 5, 2])
    args = {"pseudo_weight": 0.0} if kind is PcmeppObjective else {"initial_bias": -1.0}
    objective = kind(**args).double()
    gradients = []
    for order in (torch.arange(ROWS), partner):
        output = objective(a, b[order])
        gradients.append(torch.autograd.grad(output.loss, parts(a, b)))
    for one, other in ((gradients[0][1], gradients[1][1]), (gradients[0][3], gradients[1][3])):
        assert_close(one, other, rtol=1e-9, atol=1e-12)
        assert one.abs().max() > 1e-4
    assert (gradients[0][0] - gradients[1][0]).abs().max() > 1e-2


def test_a_pseudo_positive_lowers_the_variance_of_a_sample_far_from_its_partner() -> None:
    a, b = side(1), side(2)
    far = b[torch.tensor([3, 0, 4, 1, 5, 2])]
    sums = []
    for weight in (0.0, 1.0):
        loss = PcmeppObjective(pseudo_weight=weight, bottleneck=0.0).double()(a, far).loss / (1 + weight)
        sums.append(torch.autograd.grad(loss, a.log_variance)[0].sum())
    assert sums[1] > sums[0]  # descent lowers the variances more
