"""FDT's grounding: each sample as a sparse mixture of codes shared by all modalities."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError

_TILE_ROWS = 2048  # token vectors scored at a time
_SORTED = 2**18  # (sample, code) pairs sorted at a time


def sparsemax(x: Tensor, dim: int = -1) -> Tensor:
    """Euclidean projection of `x` onto the probability simplex: like softmax, but with exact zeros.

        p_k = max(x_k - threshold, 0),  with the threshold for which they sum to one

    (Martins and Astudillo 2016, arXiv 1602.02068, algorithm 1.) With S the support, the entries above zero,
    the gradient on S is the incoming one minus its mean over S, and zero elsewhere (section 2.5 there). An entry
    exactly at the threshold has no derivative; it counts as outside.

    Args:
        x: Any shape, any floating type; entries of -inf become zero, and a slice of only -inf is all zeros.
        dim: The dimension that sums to one.

    Returns:
        Same shape, in float32 (float64 where the input is).

    Raises:
        UserError: (on the CPU) NaN or +infinity came.

    Example:
        >>> sparsemax(torch.tensor([2.0, 1.5, 0.0, -math.inf]))
        tensor([0.7500, 0.2500, 0.0000, 0.0000])
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.device.type == "cpu" and not bool((x < math.inf).all()):
        raise UserError("sparsemax expected numbers below infinity, and got NaN or infinity")
    if not x.shape[dim]:
        return x.clone()
    return _Sparsemax.apply(x.movedim(dim, -1)).movedim(-1, dim)  # type: ignore[no-any-return]


def ground(
    tokens: Tensor,
    mask: Tensor | None,
    codebook: Tensor,
    temperature: Tensor | float,
    *,
    activation: Literal["sparsemax", "softmax"] = "sparsemax",
    chunk: int = 2048,
) -> Tensor:
    """Weights of a set of tokens over the codes of a codebook.

        r_k = max over real tokens t of <q_t, C_k> / (sqrt(dim) temperature)
        w   = sparsemax(r)

    (Chen et al. 2023, FDT, arXiv 2303.14865.) The sample's vector is then `w @ codebook`. The maximum is over real
    tokens only, so a sample's weights do not depend on its batch. Only the maximum scores and their token indices are
    stored; the gradient goes to that token, the first one among equals.

    Args:
        tokens: `(batch, tokens, dim)`, the queries `q`.
        mask: `(batch, tokens)`, True = real; None: all are.
        codebook: `(codes, dim)`, `C`.
        temperature: Above zero: a number, or one element with a gradient.
        activation: `sparsemax`, or `softmax` with a non-zero weight for every code.
        chunk: Codes scored at a time; changes memory, not the result.

    Returns:
        `(batch, codes)` in float32 (float64 where an input is); each row sums to one. A sample without a real token has
        a row of zeros, and no gradient.

    Raises:
        UserError: shapes do not fit, there is no code, the activation is unknown, or (on the CPU) the temperature is
            not above zero, or got NaN or infinity in a real token or a code.

    Example:
        >>> codes = torch.eye(4)
        >>> ground(codes[None, :2], None, codes, 0.5)  # two tokens, each a code: half of either
        tensor([[0.5000, 0.5000, 0.0000, 0.0000]])
    """
    mask = _check(tokens, mask, codebook, temperature, chunk)
    if activation not in ("sparsemax", "softmax"):
        raise UserError(f"expected activation sparsemax or softmax, got {activation}")
    dtype = torch.promote_types(torch.promote_types(tokens.dtype, codebook.dtype), torch.float32)
    if not tokens.shape[1]:
        tokens, mask = F.pad(tokens, (0, 0, 0, 1)), F.pad(mask, (0, 1))
    # One name for both, so that the pooled scores are freed after the division.
    scores: Tensor = _MaxScores.apply(tokens.to(dtype), mask, codebook.to(dtype), chunk)
    if scores.device.type == "cpu" and not _finite(scores):
        raise UserError(
            "grounding expected finite tokens and codes, and got NaN or infinity: look for a learning rate that is "
            "too high, or for NaN in the inputs (mmalign check)"
        )
    if isinstance(temperature, Tensor):
        temperature = temperature.to(dtype)
    scores = scores / (math.sqrt(tokens.shape[2]) * temperature)
    some = mask.any(1, keepdim=True)
    if activation == "softmax":
        return scores.softmax(1) * some
    # After the division: the derivative of -inf / temperature would be NaN.
    return sparsemax(scores.masked_fill_(~some, -math.inf))


class _Sparsemax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, width = x.new_empty(x.shape), x.shape[-1]
        rows, projected = x.reshape(-1, width), out.view(-1, width)
        size = torch.ones(len(rows), 1, dtype=torch.int64, device=x.device)
        for some in _slices(len(rows), max(1, _SORTED // width)):
            _project(rows[some], projected[some])
            # Here and not in backward: torch's sum of booleans takes eight bytes for each.
            size[some] = (projected[some] > 0).sum(1, keepdim=True).clamp(min=1)
        ctx.save_for_backward(out > 0, size.view(*x.shape[:-1], 1))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        support, size = ctx.saved_tensors
        grad = grad.masked_fill(~support, 0.0)
        return grad.sub_(grad.sum(-1, keepdim=True) / size).masked_fill_(~support, 0.0)


def _project(x: Tensor, out: Tensor) -> None:
    # Each row of `x` onto the probability vectors.
    top = x.amax(-1, keepdim=True)
    torch.sub(x, top.masked_fill_(top == -math.inf, 0.0), out=out)
    # The threshold is never more than one below the maximum: nothing lower matters, -inf included.
    ordered = out.clamp(min=-1.0).sort(-1, descending=True).values
    total = ordered.cumsum(-1)
    rank = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    size = (1 + rank * ordered > total).sum(-1, keepdim=True).clamp(min=1)
    out.sub_((total.gather(-1, size - 1) - 1) / size).clamp_(min=0.0)


class _MaxScores(torch.autograd.Function):
    """Maximum over real tokens of `<token, code>`, `(batch, codes)`; 0, with no gradient, where there is none."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, mask: Tensor, codebook: Tensor, chunk: int) -> Tensor:
        batch, count = len(tokens), len(codebook)
        pooled = tokens.new_empty(batch, count)
        small = torch.int16 if tokens.shape[1] < 2**15 else torch.int32
        winner = torch.empty(count, batch, dtype=small, device=tokens.device)
        chunk = min(chunk, count)
        memory = tokens.new_empty(0)
        for samples, block, pads in _blocks(tokens, mask):
            if not len(memory):  # the first block is the largest
                memory = tokens.new_empty(chunk * len(block))
            for codes in _slices(count, chunk):
                # (codes, samples, tokens): tokens are contiguous, for a fast maximum over them.
                scores = memory[: (codes.stop - codes.start) * len(block)].view(-1, len(block))
                torch.mm(codebook[codes], block.T, out=scores)  # autocast leaves `out=` alone
                largest = scores.view(-1, *pads.shape).masked_fill_(pads, -math.inf).max(2)
                pooled[samples, codes], winner[codes, samples] = largest.values.T, largest.indices
        ctx.save_for_backward(tokens, mask, codebook, winner)
        ctx.chunk = chunk
        return pooled.masked_fill_(~mask.any(1, keepdim=True), 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        if torch.is_grad_enabled():
            raise UserError("grounding has no second derivative; call backward without create_graph=True")
        tokens, mask, codebook, winner = (saved.detach() for saved in ctx.saved_tensors)
        grad_codes = _to_codes(grad, winner, tokens, mask, ctx.chunk) if ctx.needs_input_grad[2] else None
        grad_tokens = _to_tokens(grad, winner, codebook, tokens.shape[1]) if ctx.needs_input_grad[0] else None
        return grad_tokens, None, grad_codes, None


def _to_codes(grad: Tensor, winner: Tensor, tokens: Tensor, mask: Tensor, chunk: int) -> Tensor:
    # One bag per code: the maximal token of each sample, weighted by that sample's gradient.
    out = tokens.new_zeros(len(winner), tokens.shape[2])
    for samples, block, pads in _blocks(tokens, mask):
        offset = torch.arange(len(pads), dtype=torch.int32, device=winner.device) * tokens.shape[1]
        for codes in _slices(len(winner), chunk):
            bags, weights = winner[codes, samples] + offset, grad[samples, codes].T.contiguous()
            out[codes] += F.embedding_bag(bags, block, per_sample_weights=weights, mode="sum")
    return out


def _blocks(tokens: Tensor, mask: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Blocks of samples: slice, their tokens as one matrix `(samples * tokens, dim)`, and the padding."""
    for samples in _slices(len(tokens), max(1, _TILE_ROWS // tokens.shape[1])):
        pads = ~mask[samples]
        # Padding, NaN included, is zeroed before any product.
        yield samples, tokens[samples].masked_fill(pads[:, :, None], 0.0).flatten(0, 1), pads


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def _to_tokens(grad: Tensor, winner: Tensor, codebook: Tensor, length: int) -> Tensor:
    # One bag per token: the codes for which it is maximal, ordered by token.
    count, batch = winner.shape
    out = codebook.new_empty(batch, length, codebook.shape[1])
    positions = torch.arange(length, dtype=winner.dtype, device=winner.device)
    for samples in _slices(batch, max(1, _SORTED // count)):
        ordered = winner[:, samples].T.sort(1)
        some = len(ordered.values)
        starts = torch.searchsorted(ordered.values.contiguous(), positions.expand(some, length).contiguous())
        starts += torch.arange(some, device=starts.device)[:, None] * count
        weights = grad[samples].gather(1, ordered.indices)
        bags = F.embedding_bag(
            ordered.indices.flatten(), codebook, starts.flatten(), per_sample_weights=weights.flatten(), mode="sum"
        )
        out[samples] = bags.view(some, length, -1)
    return out


def _finite(x: Tensor) -> bool:
    # Without a boolean tensor as large as `x`: a NaN anywhere is both the minimum and the maximum.
    return not x.numel() or all(math.isfinite(border) for border in x.detach().aminmax())


def _check(tokens: Tensor, mask: Tensor | None, codebook: Tensor, temperature: Tensor | float, chunk: int) -> Tensor:
    if tokens.ndim != 3 or codebook.ndim != 2 or tokens.shape[2] != codebook.shape[1]:
        came = f"{tuple(tokens.shape)} and {tuple(codebook.shape)}"
        raise UserError(f"expected tokens (batch, tokens, dim) and a codebook (codes, dim), got shapes {came}")
    if not len(codebook) or chunk < 1:
        raise UserError(f"expected at least one code and a chunk of at least one, got {len(codebook)} and {chunk}")
    if mask is None:
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    if mask.shape != tokens.shape[:2] or mask.dtype != torch.bool:
        came = f"{tuple(mask.shape)} of {mask.dtype}"
        raise UserError(f"expected a mask of booleans of shape {tuple(tokens.shape[:2])}, got {came}")
    if isinstance(temperature, Tensor) and temperature.device.type != "cpu":  # reading it synchronises with the device
        return mask
    value = float(torch.as_tensor(temperature).detach())
    if not 0 < value < math.inf:
        raise UserError(f"expected a temperature above zero, got {value}")
    return mask
