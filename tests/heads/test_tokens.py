import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.heads import TokenHead
from mmalign.types import Tokens


def tokens(*lengths: int, width: int = 8, filler: float = math.nan) -> Tokens:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(*mask.shape, width, generator=draw)
    return Tokens(values.masked_fill(~mask[:, :, None], filler), mask)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("filler", [math.nan, math.inf, 5.0])
def test_real_tokens_have_length_one_and_pads_are_zeros_that_nothing_reaches(kind: str, filler: float) -> None:
    head, given = TokenHead(8, 4, kind), tokens(3, 0, 2, filler=filler)
    values = given.values.requires_grad_()
    found = head(Tokens(values, given.mask))
    assert found.mask is given.mask
    assert_close(found.values.norm(dim=2), given.mask.float())
    assert not found.values[~given.mask].any()
    (found.values * torch.randn(4)).sum().backward()
    assert values.grad is not None
    assert values.grad[given.mask].abs().sum(1).gt(0).all()
    assert values.grad[~given.mask].abs().sum() == 0
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert_close(found.values[given.mask], head.project(given.values[given.mask]))


def test_gradients_do_not_depend_on_what_a_pad_holds() -> None:
    found = []
    for filler in (0.0, 1e6, math.nan):
        torch.manual_seed(0)
        head, given = TokenHead(8, 4), tokens(3, 1, filler=filler)
        head(given).values.square().mul(torch.arange(4.0)).sum().backward()
        found.append([parameter.grad for parameter in head.parameters()])
    assert_close(found[0], found[1], rtol=0, atol=0)
    assert_close(found[0], found[2], rtol=0, atol=0)


def test_a_zero_token_stays_zero_and_has_a_finite_gradient() -> None:
    head, values = TokenHead(8, 4), torch.zeros(1, 2, 8, requires_grad=True)
    found = head(Tokens(values, torch.ones(1, 2, dtype=torch.bool)))
    assert not found.values.any()
    found.values.sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)], ids=str)
def test_an_empty_batch_gives_empty_outputs(shape: tuple[int, int]) -> None:
    head = TokenHead(8, 4)
    found = head(Tokens(torch.zeros(*shape, 8), torch.ones(shape, dtype=torch.bool)))
    assert found.values.shape == (*shape, 4)
    found.values.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_precision() -> None:
    given, head = tokens(3, 2, filler=0.0), TokenHead(8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        low = head(given).values
    assert low.dtype == torch.float32
    assert_close(low.norm(dim=2), given.mask.float())  # of length one in float32, whatever projected it
    assert head.double()(given.to(torch.float64)).values.dtype == torch.float64


def test_identity_only_normalises() -> None:
    given = tokens(3, 2, filler=0.0)
    assert_close(TokenHead(8, 8, "identity")(given).values, F.normalize(given.values, dim=2))
    with pytest.raises(UserError, match="identity.* width 4 .*has 8"):
        TokenHead(8, 4, "identity")
