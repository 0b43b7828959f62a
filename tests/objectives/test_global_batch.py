"""The rows of all processes, and the contract that an objective's author writes against."""

import gc
import weakref

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.contrastive import ClipObjective
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, LossOutput, Mixed, Tokens


class Contrastive(Objective):
    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> Tensor | LossOutput:
        targets = global_batch.own_indices
        from_a = F.cross_entropy(4 * a.vector @ global_batch.b.vector.T, targets, reduction="none")
        from_b = F.cross_entropy(4 * b.vector @ global_batch.a.vector.T, targets, reduction="none")
        return LossOutput((from_a + from_b) / 2, {"first": from_a.detach(), "fixed": torch.tensor(4.0)})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        return a.vector @ b.vector.T


def embedding(rows: int, seed: int) -> Embedding:
    draw = torch.Generator().manual_seed(seed)
    vector = F.normalize(torch.randn(rows, 4, generator=draw, dtype=torch.float64), dim=1).requires_grad_()
    return Embedding(vector, tokens=Tokens(vector[:, None], torch.ones(rows, 1, dtype=torch.bool)), tower="image")


def test_a_loss_of_rows_equals_clip() -> None:
    a, b = embedding(5, 0), embedding(5, 1)
    output, wanted = Contrastive()(a, b), ClipObjective(4.0).double()(a, b)
    assert_close(output.loss, wanted.loss)
    gradients = (torch.autograd.grad(one.loss, (a.vector, b.vector)) for one in (output, wanted))
    assert_close(*gradients)
    rows = F.cross_entropy(4 * a.vector @ b.vector.T, torch.arange(5))
    assert_close(output.terms["first"], rows.detach())
    assert output.terms["fixed"] == 4


def test_no_rows_give_a_loss_of_zero_with_a_graph() -> None:
    a, b = embedding(0, 0), embedding(0, 1)
    loss = Contrastive()(a, b).loss
    assert loss == 0
    loss.backward()
    assert a.vector.grad is not None


def test_only_fields_that_are_read_are_gathered_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[tuple[int, ...]] = []
    gather = distributed.gather_rows
    monkeypatch.setattr(
        distributed, "gather_rows", lambda x, counts: gathered.append(tuple(x.shape)) or gather(x, counts)
    )
    a, b = embedding(5, 0), embedding(5, 1)
    batch = GlobalBatch(a, b, torch.tensor([3, 3, 4, 5, 3]))
    assert not gathered
    assert batch.b.vector is batch.b.vector
    assert gathered == [(5, 4)]
    assert batch.positives[0].tolist() == [True, True, False, False, True]
    assert gathered == [(5, 4), (5,)]


@pytest.mark.parametrize("reduced", [torch.tensor(1.0), torch.ones(1), torch.ones(5, 5)])
def test_a_reduced_loss_is_refused(reduced: Tensor) -> None:
    class Reduced(Contrastive):
        def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> Tensor:
            return reduced

    with pytest.raises(UserError, match="one loss for each of 5 own rows"):
        Reduced()(embedding(5, 0), embedding(5, 1))


def test_gathered_rows_form_no_reference_cycle() -> None:
    enabled = gc.isenabled()
    gc.disable()
    try:
        batch = GlobalBatch(Embedding(torch.eye(2)), Embedding(torch.eye(2)))
        gathered = weakref.ref(batch.a), weakref.ref(batch)
        assert batch.a.vector.shape == (2, 2)
        del batch
        assert [one() for one in gathered] == [None, None]
    finally:
        if enabled:
            gc.enable()


def test_invalid_settings_are_named() -> None:
    a, b = embedding(5, 0), embedding(4, 1)
    with pytest.raises(UserError, match="as many rows of tower a as of tower b, got 5 and 4"):
        Contrastive()(a, b)
    with pytest.raises(UserError, match="got 5 and 5 and 3 groups"):
        Contrastive()(a, a, torch.arange(3))
    with pytest.raises(UserError, match="does not accept mixed rows"):
        Contrastive()(a, a, None, Mixed(torch.arange(5), torch.ones(5)))
    with pytest.raises(UserError, match="image have no log_variance: add 'log_variance' to the objective's `needs`"):
        GlobalBatch(a, a).b.log_variance
    with pytest.raises(TypeError, match=r"must define loss\(a, b, global_batch\)"):
        Objective()(a, a)
