"""What looks at every token: FDT's grounding and late interaction, beside the same equations with all scores held.

Of the dense forms that were tried (order of the dimensions, `max` or `amax`) the fastest is the peer.
"""

import math

import torch
from measuring import Leaves, Row
from torch import Tensor
from torch.nn import functional as F

from mmalign.objectives.functional import ground, late_interaction, sparsemax

# FDT's published temperature: about a quarter of the codes have a weight at the start.
_TEMPERATURE = 1000.0


def grounding(quick: bool) -> Row:
    """Half of the places are pads. Tokens have the size that a fresh linear layer gives them."""
    batch, length, count, dim = (3, 5, 40, 8) if quick else (128, 49, 16384, 512)
    mask, sent = _mask(batch, length, least=1), torch.randn(batch, count)

    def inputs() -> Leaves:
        torch.manual_seed(0)
        tokens, codebook = torch.randn(batch, length, dim) / math.sqrt(3), torch.randn(count, dim)
        return tokens.requires_grad_(), codebook.requires_grad_()

    def ours(tokens: Tensor, codebook: Tensor) -> Tensor:
        return (ground(tokens, mask, codebook, _TEMPERATURE) * sent).sum()

    def theirs(tokens: Tensor, codebook: Tensor) -> Tensor:
        scores = torch.einsum("kd,bnd->kbn", codebook, tokens).masked_fill(~mask, -math.inf)
        return (sparsemax(scores.max(2).values.T / (math.sqrt(dim) * _TEMPERATURE)) * sent).sum()

    return Row(
        work=f"FDT grounding, {batch} x {length} tokens, {count:,} codes, {dim}-d",
        peer="dense scores, mask, max, sparsemax",
        inputs=inputs,
        ours=ours,
        theirs=theirs,
        time=1.0,
        memory=1 / 8,
    )


def late(quick: bool) -> Row:
    """One side is pictures, whose patches are all real, the other captions of 4 to 32 words; the loss is FILIP's."""
    batch, lengths, dim = (4, (5, 6), 8) if quick else (256, (49, 32), 256)
    mask_a, mask_b = torch.ones(batch, lengths[0], dtype=torch.bool), _mask(batch, lengths[1], least=4)
    right = torch.arange(batch)

    def inputs() -> Leaves:
        torch.manual_seed(0)
        sides = (F.normalize(torch.randn(batch, length, dim), dim=2) for length in lengths)
        return tuple(side.requires_grad_() for side in sides)

    def contrast(forth: Tensor, back: Tensor) -> Tensor:
        return F.cross_entropy(forth / 0.07, right) + F.cross_entropy(back.T / 0.07, right)

    def ours(a: Tensor, b: Tensor) -> Tensor:
        return contrast(*late_interaction(a, mask_a, b, mask_b))

    def theirs(a: Tensor, b: Tensor) -> Tensor:
        dots = torch.einsum("iad,jbd->iajb", a, b)
        forth = dots.masked_fill(~mask_b, -math.inf).max(3).values.mean(1)
        back = (dots.max(1).values * (mask_b / mask_b.sum(1, keepdim=True))).sum(2)
        return contrast(forth, back)

    return Row(
        work=f"Late interaction, {batch} x ({lengths[0]}, {lengths[1]}) tokens, {dim}-d",
        peer="dense scores, mask, max, mean",
        inputs=inputs,
        ours=ours,
        theirs=theirs,
        time=1.0,
        memory=1 / 8,
    )


def _mask(batch: int, length: int, *, least: int) -> Tensor:
    torch.manual_seed(1)
    return torch.arange(length) < torch.randint(least, length + 1, (batch, 1))
