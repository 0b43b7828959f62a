"""Losses of one vector a sample: CLIP and SigLIP beside open_clip's, PCME++ beside its formula broadcast over pairs."""

from collections.abc import Callable

import torch
from measuring import Leaves, Row
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn import functional as F

from mmalign.objectives.functional import clip_loss, pcmepp_loss, siglip_loss

_PSEUDO = 0.1


def clip(scale: float) -> Callable[[bool], Row]:
    """At a scale of 100 some exponentials would overflow float32: another branch of the code."""
    theirs = ClipLoss()

    def build(quick: bool) -> Row:
        rows, dim = _size(quick)
        return Row(
            work=f"CLIP loss, {rows:,} x {dim}, scale {scale:.3g}",
            peer="open_clip ClipLoss",
            inputs=lambda: (*_pairs(rows, dim), torch.tensor(scale, requires_grad=True)),
            ours=clip_loss,
            theirs=theirs,
            time=0.58,
            memory=1 / 20,
        )

    return build


def siglip(scale: float) -> Callable[[bool], Row]:
    """The bias is what SigLIP-B/16 ended with, whichever the scale."""
    theirs = SigLipLoss()

    def build(quick: bool) -> Row:
        rows, dim = _size(quick)
        scalars = (torch.tensor(scale), torch.tensor(-9.7))
        return Row(
            work=f"SigLIP loss, {rows:,} x {dim}, scale {scale:.3g}",
            peer="open_clip SigLipLoss",
            inputs=lambda: (*_pairs(rows, dim), *(scalar.clone().requires_grad_() for scalar in scalars)),
            ours=siglip_loss,
            theirs=theirs,
            time=0.70,
            memory=1 / 20,
        )

    return build


def pcmepp(quick: bool) -> Row:
    """With pseudo-positives, and the published start of scale and bias."""
    rows, dim = (8, 16) if quick else (256, 1024)

    def inputs() -> Leaves:
        a, b = _pairs(rows, dim)
        spreads = (torch.randn(2, rows, dim) - 8).unbind()
        scalars = (torch.tensor(5.0), torch.tensor(5.0))
        return (a, b, *(leaf.clone().requires_grad_() for leaf in (*spreads, *scalars)))

    def ours(a: Tensor, b: Tensor, spread_a: Tensor, spread_b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return pcmepp_loss(a, spread_a, b, spread_b, scale=scale, bias=bias, pseudo_weight=_PSEUDO)

    return Row(
        work=f"PCME++ loss with pseudo-positives, {rows} x {dim}",
        peer="broadcast to batch x batch x dim",
        inputs=inputs,
        ours=ours,
        theirs=_broadcast_pcmepp,
        time=1 / 20,
        memory=1 / 20,
    )


def _broadcast_pcmepp(a: Tensor, b: Tensor, spread_a: Tensor, spread_b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    moved = (a[:, None] - b).square().sum(2)
    spread = (spread_a.exp()[:, None] + spread_b.exp()).sum(2)
    logits = bias - scale * (moved + spread)
    labels = torch.eye(len(a))
    right = logits.detach().diagonal()
    rows = (logits.detach() >= right[:, None]).float()
    columns = (logits.detach() >= right).float()
    terms = [F.binary_cross_entropy_with_logits(logits, targets) for targets in (labels, rows, columns)]
    return 2 * terms[0] + _PSEUDO * (terms[1] + terms[2])


def _size(quick: bool) -> tuple[int, int]:
    return (64, 16) if quick else (16384, 512)


def _pairs(rows: int, dim: int) -> Leaves:
    """Unit vectors; the cosine of a pair is about a third."""
    torch.manual_seed(0)
    a = F.normalize(torch.randn(rows, dim), dim=1)
    b = F.normalize(torch.randn(rows, dim) + 0.35 * dim**0.5 * a, dim=1)
    return a.requires_grad_(), b.requires_grad_()
