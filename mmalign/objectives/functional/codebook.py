"""FDT's grounding: each sample as a sparse mixture of codes that all modalities share."""

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError

_TILE_ROWS = 2048  # token vectors scored at a time
_BAGS = 2**20  # (sample, code) pairs whose gradient is summed at a time


def sparsemax(x: Tensor, dim: int = -1) -> Tensor:
    """The nearest point to `x` among the probability vectors: like softmax, but most entries are exactly zero.

        p_k = max(x_k - threshold, 0),  with the threshold for which they sum to one

    (Martins and Astudillo 2016, arXiv 1602.02068, algorithm 1.) With S the support, the entries above zero,
    the gradient on S is the incoming one less its mean over S, and zero elsewhere (section 2.5 there). Where an entry
    lies just on the border there is no derivative; it then counts as outside.

    Args:
        x: Any shape, any floating type; entries of -inf get zero, and a slice of nothing else is all zeros.
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
        raise UserError("sparsemax expected numbers below infinity, and NaN or infinity came")
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
    """How much of each code a set of tokens holds.

        r_k = max over real tokens t of <q_t, C_k> / (sqrt(dim) temperature)
        w   = sparsemax(r)

    (Chen et al. 2023, FDT, arXiv 2303.14865.) The sample's vector is then `w @ codebook`. The maximum is
    over real tokens alone, so a caption's weights do not depend on what it was batched with. Of the scores only their
    maximum and the token that won are kept; the gradient goes to the winner, the first one where several are equal.

    Args:
        tokens: `(batch, tokens, dim)`, the queries `q`.
        mask: `(batch, tokens)`, True = real; None: all are.
        codebook: `(codes, dim)`, `C`.
        temperature: Above zero: a number, or one element with a gradient.
        activation: `softmax` gives weight to every code.
        chunk: Codes scored at a time; changes memory, not the result.

    Returns:
        `(batch, codes)` in float32 (float64 where an input is); each row sums to one. A sample without a real token has
        a row of zeros, and no gradient.

    Raises:
        UserError: shapes do not fit, there is no code, the activation is unknown, or (on the CPU) the temperature is
            not above zero, or NaN or infinity came in a real token or a code.

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
    # Whatever stands in a pad, NaN too, is gone before anything is multiplied by it.
    tokens = tokens.to(dtype).masked_fill(~mask[:, :, None], 0.0)
    some = mask.any(1, keepdim=True)
    pooled = _MaxScores.apply(tokens, mask, codebook.to(dtype), chunk)
    # Before the division: the derivative of -inf / temperature would be NaN, even where its weight is zero.
    pooled = pooled.masked_fill(~some, 0.0)
    if pooled.device.type == "cpu" and not bool(pooled.isfinite().all()):
        raise UserError(
            "grounding expected finite tokens and codes, and NaN or infinity came: look for a learning rate that is "
            "too high, or for NaN in the inputs (mmalign check)"
        )
    if isinstance(temperature, Tensor):
        temperature = temperature.to(dtype)
    scores = pooled / (math.sqrt(tokens.shape[2]) * temperature)
    return (sparsemax(scores) if activation == "sparsemax" else scores.softmax(1)) * some


class CodeStatistics(NamedTuple):
    """How a batch uses its codes; each a scalar."""

    live: Tensor
    perplexity: Tensor
    support: Tensor


@torch.no_grad()
def code_statistics(weights: Tensor, *, threshold: float = 0.0) -> CodeStatistics:
    """Which part of a codebook is in use.

        live       = share of the codes whose weight is above the threshold in some sample
        perplexity = exp(- sum_k u_k log u_k),  u = the mean of the samples' weights: 1 .. codes
        support    = mean over samples of how many codes are above the threshold

    Args:
        weights: `(batch, codes)` from `ground`. Rows of zeros (samples without a token) are left out.
        threshold: What counts as used. Softmax leaves no weight at zero: there 1 / codes says more.

    Raises:
        UserError: `weights` is not a matrix.

    Example:
        >>> code_statistics(torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
        CodeStatistics(live=tensor(0.5000), perplexity=tensor(1.7548), support=tensor(1.5000))
    """
    if weights.ndim != 2:
        raise UserError(f"expected code weights of shape (batch, codes), got {tuple(weights.shape)}")
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    samples = (weights > 0).any(1).sum().clamp(min=1)
    used = weights > threshold
    usage = weights.sum(0) / samples
    return CodeStatistics(
        live=used.any(0).sum() / max(weights.shape[1], 1),
        perplexity=(-torch.xlogy(usage, usage).sum()).exp(),
        support=used.sum() / samples,
    )


class _Sparsemax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        top = x.amax(-1, keepdim=True)
        x = x - top.masked_fill(top == -math.inf, 0.0)
        # The threshold is never more than one below the maximum: nothing lower matters, -inf included.
        ordered = x.clamp(min=-1.0).sort(-1, descending=True).values
        total = ordered.cumsum(-1)
        place = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
        size = (1 + place * ordered > total).sum(-1, keepdim=True).clamp(min=1)
        threshold = (total.gather(-1, size - 1) - 1) / size
        out = (x - threshold).clamp_(min=0.0)
        ctx.save_for_backward(out > 0)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (support,) = ctx.saved_tensors
        grad = grad.masked_fill(~support, 0.0)
        mean = grad.sum(-1, keepdim=True) / support.sum(-1, keepdim=True).clamp(min=1)
        result: Tensor = (grad - mean).masked_fill(~support, 0.0)
        return result


class _MaxScores(torch.autograd.Function):
    """Maximum over real tokens of `<token, code>`, `(batch, codes)`; -inf where there is none."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, mask: Tensor, codebook: Tensor, chunk: int) -> Tensor:
        (batch, length, dim), count = tokens.shape, len(codebook)
        pooled = tokens.new_empty(batch, count)
        winner = torch.empty(count, batch, dtype=torch.int32, device=tokens.device)
        step, chunk = min(max(1, _TILE_ROWS // length), max(batch, 1)), min(chunk, count)
        memory = tokens.new_empty(step * length * chunk)
        for first in range(0, batch, step):
            block = tokens[first : first + step]
            pads = ~mask[first : first + step]
            for begin in range(0, count, chunk):
                codes = codebook[begin : begin + chunk]
                # (codes, samples, tokens): the tokens lie side by side, as a maximum over them likes it.
                scores = memory[: len(codes) * pads.numel()].view(len(codes), pads.numel())
                torch.mm(codes, block.reshape(-1, dim).T, out=scores)  # autocast leaves `out=` alone
                found = scores.view(len(codes), *pads.shape).masked_fill_(pads, -math.inf).max(2)
                pooled[first : first + step, begin : begin + chunk] = found.values.T
                winner[begin : begin + chunk, first : first + step] = found.indices
        ctx.save_for_backward(tokens, codebook, winner)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        if torch.is_grad_enabled():
            raise UserError("grounding has no second derivative; call backward without create_graph=True")
        tokens, codebook, winner = ctx.saved_tensors
        grad_tokens = _to_tokens(grad, winner, codebook, tokens.shape[1]) if ctx.needs_input_grad[0] else None
        grad_codes = _to_codes(grad, winner, tokens) if ctx.needs_input_grad[2] else None
        return grad_tokens, None, grad_codes, None


def _to_codes(grad: Tensor, winner: Tensor, tokens: Tensor) -> Tensor:
    # A bag a code: the winning token of each sample, weighted by that sample's gradient.
    (batch, length, dim), count = tokens.shape, len(winner)
    out = tokens.new_zeros(count, dim)
    if not batch:
        return out
    table, offset = tokens.reshape(-1, dim), torch.arange(batch, dtype=winner.dtype, device=winner.device) * length
    step = max(1, _BAGS // batch)
    for begin in range(0, count, step):
        weights = grad[:, begin : begin + step].T.contiguous()
        bags = winner[begin : begin + step] + offset
        out[begin : begin + step] = F.embedding_bag(bags, table, per_sample_weights=weights, mode="sum")
    return out


def _to_tokens(grad: Tensor, winner: Tensor, codebook: Tensor, length: int) -> Tensor:
    # A bag a token: the codes that it won, in the order of their winners.
    count, batch = winner.shape
    out = codebook.new_zeros(batch, length, codebook.shape[1])
    places = torch.arange(length, dtype=winner.dtype, device=winner.device)
    step = max(1, _BAGS // count)
    for first in range(0, batch, step):
        ordered = winner[:, first : first + step].T.sort(1)
        samples = len(ordered.values)
        starts = torch.searchsorted(ordered.values.contiguous(), places.expand(samples, length).contiguous())
        starts += torch.arange(samples, device=starts.device)[:, None] * count
        weights = grad[first : first + step].gather(1, ordered.indices)
        bags = F.embedding_bag(
            ordered.indices.flatten(), codebook, starts.flatten(), per_sample_weights=weights.flatten(), mode="sum"
        )
        out[first : first + step] = bags.view(samples, length, -1)
    return out


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
    if isinstance(temperature, Tensor) and temperature.device.type != "cpu":  # to look at it is to wait for the device
        return mask
    value = float(torch.as_tensor(temperature).detach())
    if not 0 < value < math.inf:
        raise UserError(f"expected a temperature above zero, got {value}")
    return mask
