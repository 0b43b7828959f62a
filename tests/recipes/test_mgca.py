"""The recipe's three terms are half of the released sum, in value and gradient."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign import recipes
from mmalign.objectives.functional import clip_quantiles, local_alignment_loss, prototype_codes, prototype_loss
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.objectives.prototypes import PrototypeObjective
from mmalign.safe_io.safe_yaml import read_yaml
from mmalign.types import Batch, Embedding, Tokens

ROWS, DIM = 12, 16


def towers() -> dict[str, Embedding]:
    draw, made = torch.Generator().manual_seed(0), {}
    for name, length in (("image", 7), ("text", 5)):
        vector = F.normalize(torch.randn(ROWS, DIM, generator=draw, dtype=torch.float64), dim=1).requires_grad_()
        tokens = F.normalize(torch.randn(ROWS, length, DIM, generator=draw, dtype=torch.float64), dim=2)
        mask = torch.arange(length) < torch.randint(1, length + 1, (ROWS, 1), generator=draw)
        weight = torch.rand(ROWS, length, generator=draw, dtype=torch.float64)
        made[name] = Embedding(vector, tokens=Tokens(tokens.requires_grad_(), mask, weight), tower=name)
    return made


def gradients(sides: dict[str, Embedding], loss: Tensor) -> list[Tensor]:
    leaves = [leaf for one in sides.values() for leaf in (one.vector, one.tokens.values)]
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


def released(sides: dict[str, Embedding], prototypes: Tensor, scale: Tensor) -> Tensor:
    """The sum of the published command: both directions, tokens and prototypes with weight 1 each."""
    image, text = sides.values()
    logits, diagonal = scale * image.vector @ text.vector.T, torch.arange(ROWS)
    contrast = F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)
    weights = [clip_quantiles(one.tokens.weight, one.tokens.mask) for one in sides.values()]
    x, y = image.tokens, text.tokens
    local = local_alignment_loss(x.values, x.mask, y.values, y.mask, weights_a=weights[0], weights_b=weights[1])
    scores = [one.vector @ prototypes.T for one in sides.values()]
    codes = [prototype_codes(one, 0.05) for one in scores]
    return contrast + local + prototype_loss(scores[0], scores[1], codes_a=codes[0], codes_b=codes[1], temperature=0.2)


def test_the_terms_are_half_of_the_released_sum() -> None:
    described = read_yaml(recipes.find("image-text/mgca"), "a recipe")["model"]["pairs"]
    torch.manual_seed(0)
    terms, rows = PairSum([PairConfig(**pair) for pair in described], DIM).double(), torch.arange(ROWS)
    terms.set_progress(0.0)
    sides = towers()
    output = terms(sides, Batch({}, {"image": rows, "text": rows}, rows, rows))
    clip, _, prototypes = terms.objectives
    assert isinstance(prototypes, PrototypeObjective)
    assert not prototypes.moving
    whole = released(sides, prototypes.prototypes.detach(), clip.scale)
    for ours, theirs in zip(gradients(sides, output.loss), gradients(sides, whole), strict=True):
        assert_close(2 * ours, theirs, rtol=1e-10, atol=1e-10)
    terms.set_progress(0.5)
    assert prototypes.moving
