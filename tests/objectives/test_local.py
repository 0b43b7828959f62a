import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional import clip_quantiles, late_interaction, local_alignment_loss
from mmalign.objectives.local import LocalObjective
from mmalign.types import Embedding, Tokens
from tests.gradients import gradcheck
from tests.reference import local as reference

# The second sample has no token of a, the fourth none of b: they do not count.
LENGTHS = [3, 0, 1, 4, 2], [2, 3, 4, 0, 1]


def tokens(lengths: list[int], pad: int = 0, *, seed: int = 0, dim: int = 5) -> tuple[Tensor, Tensor]:
    """Vectors of any length; what stands in the padded places is NaN."""
    longest = max(lengths, default=0) + pad
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(lengths), longest, dim, generator=generator, dtype=torch.float64)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    return values.masked_fill(~mask[:, :, None], math.nan), mask


def weights(mask: Tensor, seed: int) -> Tensor:
    return torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expected(a: Tensor, mask_a: Tensor, b: Tensor, mask_b: Tensor, first: float, second: float, **by: Tensor) -> float:
    values = []
    for i in range(len(a)):
        real_a, real_b = mask_a[i], mask_b[i]
        if real_a.any() and real_b.any():
            of_a = by.get("weights_a", torch.ones(mask_a.shape).double())[i][real_a]
            of_b = by.get("weights_b", torch.ones(mask_b.shape).double())[i][real_b]
            both = (of_a / of_a.sum()).tolist(), (of_b / of_b.sum()).tolist()
            values.append(reference.sample_loss(a[i][real_a].numpy(), b[i][real_b].numpy(), first, second, *both))
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("weighted", ["", "a", "ab"])
@pytest.mark.parametrize("temperatures", [(0.1, 0.1), (0.05, 1.0), (2.0, 0.07)])
def test_equals_the_paper_written_as_loops(weighted: str, temperatures: tuple[float, float]) -> None:
    (a, mask_a), (b, mask_b) = tokens(LENGTHS[0]), tokens(LENGTHS[1], seed=1)
    of = {f"weights_{side}": weights({"a": mask_a, "b": mask_b}[side], seed) for seed, side in enumerate(weighted)}
    named: dict[str, Any] = {"attention_temperature": temperatures[0], "temperature": temperatures[1]}
    got = local_alignment_loss(a, mask_a, b, mask_b, **named, **of)
    torch.testing.assert_close(float(got), expected(a, mask_a, b, mask_b, *temperatures, **of), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_by_finite_differences_and_none_in_padding(weighted: bool) -> None:
    (a, mask_a), (b, mask_b) = tokens([2, 0, 1, 3], dim=3), tokens([2, 2, 3, 0], seed=1, dim=3)
    of = {"weights_a": weights(mask_a, 0), "weights_b": weights(mask_b, 1)} if weighted else {}
    a, b = a.nan_to_num(7.0).requires_grad_(), b.nan_to_num(7.0).requires_grad_()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return local_alignment_loss(a, mask_a, b, mask_b, attention_temperature=0.5, temperature=0.5, **of)

    assert gradcheck(loss, (a, b))
    loss(a, b).backward()
    for side, mask in ((a, mask_a), (b, mask_b)):
        assert not side.grad[~mask].any()
    assert not a.grad[3].any()  # the other side of this sample is empty
    assert a.grad[0].any()


@pytest.mark.parametrize("pad", [1, 9])
def test_padding_changes_nothing_and_is_not_read(pad: int) -> None:
    (a, mask_a), (b, mask_b) = tokens([3, 2]), tokens([2, 4], seed=1)
    of = {"weights_a": weights(mask_a, 0), "weights_b": weights(mask_b, 1)}
    short = local_alignment_loss(a, mask_a, b, mask_b, **of)
    a, b = a.requires_grad_(), b.requires_grad_()
    longer = [F.pad(a, (0, 0, 0, pad), value=1e9), F.pad(mask_a, (0, pad))]
    longer += [F.pad(b, (0, 0, pad, 0), value=math.inf), F.pad(mask_b, (pad, 0))]
    wide = {
        "weights_a": F.pad(of["weights_a"], (0, pad), value=math.nan),
        "weights_b": F.pad(of["weights_b"], (pad, 0), value=-3.0),
    }
    loss = local_alignment_loss(*longer, **wide)
    torch.testing.assert_close(loss.detach(), short, rtol=1e-13, atol=1e-13)
    loss.backward()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


def test_padding_gets_no_weight_where_all_scores_are_negative() -> None:
    # A pad's dot product of 0 would beat all of theirs, by e^1000.
    (a, mask_a), (b, mask_b) = tokens([3], seed=4), tokens([2], seed=5)
    a, b = a.abs(), -b.abs()
    short = local_alignment_loss(a, mask_a, b, mask_b, attention_temperature=1e-3)
    longer = F.pad(b, (0, 0, 0, 2)), F.pad(mask_b, (0, 2))
    torch.testing.assert_close(local_alignment_loss(a, mask_a, *longer, attention_temperature=1e-3), short)


def test_closed_forms() -> None:
    real = torch.ones(2, 4).bool()
    alike = torch.ones(2, 4, 3).double()  # all tokens see the same: log 4 from each side
    torch.testing.assert_close(float(local_alignment_loss(alike, real, alike, real)), 2 * math.log(4))
    one, lone = torch.randn(2, 1, 3).double(), torch.ones(2, 1).bool()  # nothing to be mistaken for
    torch.testing.assert_close(float(local_alignment_loss(one, lone, -one, lone)), 0.0, atol=1e-13, rtol=0.0)
    # Sharp attention finds the like: unit vectors, e apart by nothing but their places, cosines 1 and 0.
    eye = torch.eye(4).double().expand(2, 4, 4)
    found = local_alignment_loss(eye, real, eye[:, [2, 0, 3, 1]], real, attention_temperature=1e-3, temperature=0.5)
    torch.testing.assert_close(float(found), 2 * (math.log(math.exp(2) + 3) - 2))


def test_token_lengths_order_and_towers_change_nothing() -> None:
    (a, mask_a), (b, mask_b) = tokens(LENGTHS[0]), tokens(LENGTHS[1], seed=1)
    here = local_alignment_loss(a, mask_a, b, mask_b)
    same = {
        "longer tokens": local_alignment_loss(5 * a, mask_a, b / 3, mask_b),
        "turned places": local_alignment_loss(a.flip(1), mask_a.flip(1), b, mask_b),
        "other order": local_alignment_loss(a.flip(0), mask_a.flip(0), b.flip(0), mask_b.flip(0)),
        "sides exchanged": local_alignment_loss(b, mask_b, a, mask_a),
    }
    for name, there in same.items():
        torch.testing.assert_close(there, here, rtol=1e-12, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}")


def test_samples_are_independent_and_incomplete_ones_are_ignored() -> None:
    (a, mask_a), (b, mask_b) = tokens(LENGTHS[0]), tokens(LENGTHS[1], seed=1)
    alone = [local_alignment_loss(a[i : i + 1], mask_a[i : i + 1], b[i : i + 1], mask_b[i : i + 1]) for i in (0, 2, 4)]
    torch.testing.assert_close(local_alignment_loss(a, mask_a, b, mask_b), torch.stack(alone).mean())
    nothing = a.nan_to_num().requires_grad_()
    loss = local_alignment_loss(nothing, torch.zeros_like(mask_a), b, mask_b)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not nothing.grad.any()


def test_weights_have_any_sum_and_one_of_zero_takes_a_token_out_of_the_mean_alone() -> None:
    (a, mask_a), (b, mask_b) = tokens([3]), tokens([2], seed=1)
    of_a = torch.tensor([[1.0, 3.0, 0.0]])
    named = {"weights_b": torch.zeros(1, 2)}  # that side adds nothing
    here = local_alignment_loss(a, mask_a, b, mask_b, weights_a=of_a, **named)
    torch.testing.assert_close(local_alignment_loss(a, mask_a, b, mask_b, weights_a=7 * of_a, **named), here)
    shorter = local_alignment_loss(a[:, :2], mask_a[:, :2], b, mask_b, weights_a=of_a[:, :2], **named)
    assert float(here - shorter) > 1e-3  # still one to be told apart from
    both = local_alignment_loss(a, mask_a, b, mask_b, weights_a=of_a)
    only_b = local_alignment_loss(a, mask_a, b, mask_b, weights_a=torch.zeros(1, 3))
    torch.testing.assert_close(here + only_b, both)
    learnt = of_a.clone().requires_grad_()
    assert not local_alignment_loss(a, mask_a, b, mask_b, weights_a=learnt).requires_grad


def test_training_completes_a_partly_correct_matching() -> None:
    generator = torch.Generator().manual_seed(0)
    things, real = torch.randn(64, 4, 6, generator=generator), torch.ones(64, 4).bool()
    tower = (torch.eye(6) + 0.5 * torch.randn(6, 6, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([tower], lr=0.03)

    def found() -> float:
        likeness = F.normalize(things, dim=2) @ F.normalize(things @ tower.detach(), dim=2).mT
        return float((likeness.argmax(2) == torch.arange(4)).float().mean())

    assert found() < 0.7
    for _ in range(60):
        optimizer.zero_grad()
        local_alignment_loss(things, real, things @ tower, real).backward()
        optimizer.step()
    assert found() > 0.95


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype: torch.dtype) -> None:
    (a, mask_a), (b, mask_b) = tokens(LENGTHS[0]), tokens(LENGTHS[1], seed=1)
    results = []
    for inside in (False, True):
        x, y = (side.nan_to_num().to(dtype).requires_grad_() for side in (a, b))
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            loss = local_alignment_loss(x, mask_a, y, mask_b)
            results.append([loss.detach(), *torch.autograd.grad(loss, (x, y))])
        assert loss.dtype == torch.float32
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


def test_invalid_arguments_are_errors() -> None:
    (a, mask_a), (b, mask_b) = tokens([2, 3]), tokens([2, 1], seed=1)
    bad, negative = a.clone(), torch.ones(2, 3)
    bad[0, 0, 0], negative[1, 0] = math.nan, -1.0
    for arguments, named, match in [
        ((bad, mask_a, b, mask_b), {}, "tower a: expected finite"),
        ((a[0], mask_a, b, mask_b), {}, "tower a"),
        ((a, mask_a, b, mask_b.float()), {}, "tower b"),
        ((a, mask_a, b[:, :, :2], mask_b), {}, "one width"),
        ((a, mask_a, b[:1], mask_b[:1]), {}, "as many samples"),
        ((a, mask_a, b, mask_b), {"temperature": 0.0}, "^temperature"),
        ((a, mask_a, b, mask_b), {"attention_temperature": -1.0}, "attention_temperature"),
        ((a, mask_a, b, mask_b), {"weights_a": torch.ones(2, 2)}, "weights_a: expected shape"),
        ((a, mask_a, b, mask_b), {"weights_a": negative}, "weights_a: expected weights"),
    ]:
        with pytest.raises(UserError, match=match):
            local_alignment_loss(*arguments, **named)


def side(lengths: list[int], seed: int, field: str = "tokens") -> Embedding:
    values, mask = tokens(lengths, seed=seed)
    return Embedding(torch.zeros(len(lengths), 5).double(), **{field: Tokens(values, mask)})


@pytest.mark.parametrize("level", ["tokens", "parts"])
def test_the_objective_is_the_loss_on_its_level(level: str) -> None:
    objective = LocalObjective(level=level, attention_temperature=0.3, temperature=0.2)
    assert objective.needs == {level}
    a, b = side(LENGTHS[0], 0, level), side(LENGTHS[1], 1, level)
    output = objective(a, b, torch.zeros(5, dtype=torch.long))
    left, right = getattr(a, level), getattr(b, level)
    wanted = expected(left.values, left.mask, right.values, right.mask, 0.3, 0.2)
    torch.testing.assert_close(float(output.loss), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(float(output.terms["counted"]), 0.6)
    with pytest.raises(UserError, match=f"have no {level}"):
        objective(a, Embedding(torch.zeros(5, 5)))


def test_the_score_is_late_interaction_of_unit_tokens_both_ways() -> None:
    objective, a, b = LocalObjective(), side([3, 0, 2], 0), side([2, 4], 1)
    unit = [F.normalize(each.tokens.values.nan_to_num(), dim=2) for each in (a, b)]
    forth, back = late_interaction(unit[0], a.tokens.mask, unit[1], b.tokens.mask)
    torch.testing.assert_close(objective.similarity(a, b), (forth + back) / 2)
    torch.testing.assert_close(objective.similarity(b, a), (forth + back).T / 2)


@pytest.mark.parametrize("lengths", [[], [0], [1], [3]])
def test_small_batches_run_backward(lengths: list[int]) -> None:
    a, b = side(lengths, 0), side(lengths, 1)
    leaf = a.tokens.values.nan_to_num().requires_grad_()
    output = LocalObjective()(Embedding(a.vector, tokens=Tokens(leaf, a.tokens.mask)), b)
    output.loss.backward()
    assert output.loss.isfinite()
    assert leaf.grad.isfinite().all()
    assert all(term.isfinite() and not term.requires_grad for term in output.terms.values())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UserError, match="level"):
        LocalObjective(level="words")
    with pytest.raises(UserError, match="temperature"):
        LocalObjective(temperature=0.0)


def test_weights_are_clipped_to_the_quantiles_of_the_real_tokens() -> None:
    row = torch.arange(10.0)
    clipped = clip_quantiles(row[None], torch.ones(1, 10).bool())[0]
    torch.testing.assert_close(clipped, row.clamp(0.9, 8.1))
    padded = torch.cat([row, torch.full((5,), math.nan)])[None]
    mask = torch.arange(15)[None] < 10
    torch.testing.assert_close(clip_quantiles(padded, mask)[0], torch.cat([clipped, torch.zeros(5)]))
    assert not clip_quantiles(padded, torch.zeros(1, 15).bool()).any()
    for shape in ((2, 0), (0, 3)):
        assert clip_quantiles(torch.zeros(shape), torch.zeros(shape).bool()).shape == shape
    with pytest.raises(UserError, match="one shape"):
        clip_quantiles(row[None], mask)


def test_the_objective_reads_the_weights_of_its_encoders() -> None:
    (a, mask_a), (b, mask_b) = tokens(LENGTHS[0]), tokens(LENGTHS[1], seed=1)
    of_a, of_b = weights(mask_a, 2), weights(mask_b, 3)
    for extra in (0.0, math.nan):  # what a pad weighs is never read
        noisy = [torch.where(mask, of, extra) for of, mask in ((of_a, mask_a), (of_b, mask_b))]
        sides = [
            Embedding(torch.zeros(5, 5), tokens=Tokens(values, mask, weight), tower=name)
            for values, mask, weight, name in ((a, mask_a, noisy[0], "a"), (b, mask_b, noisy[1], "b"))
        ]
        loss = LocalObjective(weighted=True)(*sides).loss
        clipped = {
            "weights_a": clip_quantiles(of_a, mask_a),
            "weights_b": clip_quantiles(of_b, mask_b),
        }
        torch.testing.assert_close(loss, local_alignment_loss(a, mask_a, b, mask_b, **clipped), rtol=0, atol=0)
    plain = LocalObjective()(*sides).loss
    assert abs(float(plain - loss)) > 1e-3
    equal = [
        Embedding(s.vector, tokens=Tokens(s.tokens.values, s.tokens.mask, torch.ones(s.tokens.mask.shape)))
        for s in sides
    ]
    torch.testing.assert_close(LocalObjective(weighted=True)(*equal).loss, plain)
    bare = Embedding(torch.zeros(5, 5), tokens=Tokens(a, mask_a), tower="image")
    with pytest.raises(
        UserError, match="tokens of image have no weights; set its encoder's args to {token_weights: true}"
    ):
        LocalObjective(weighted=True)(bare, sides[1])
