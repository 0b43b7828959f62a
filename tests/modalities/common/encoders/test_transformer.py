"""The shared transformer against a plain float64 loop."""

import math

import pytest
import torch
from torch import Tensor

from mmalign.errors import UserError
from modalities.common.encoders.transformer import Attention, AttentionPool, Transformer, masked_mean


def attention_loop(layer: Attention, values: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention by its definition, one head and one query at a time."""
    batch, length, width = values.shape
    size = width // layer.heads
    q, k, v = (values @ layer.qkv.weight.T + layer.qkv.bias).split(width, dim=-1)
    mixed = torch.zeros_like(values)
    for b in range(batch):
        for h in range(layer.heads):
            part = slice(h * size, (h + 1) * size)
            for i in range(length):
                real = [j for j in range(length) if mask[b, j]]
                scores = [math.exp(float(q[b, i, part] @ k[b, j, part]) / math.sqrt(size)) for j in real]
                for j, score in zip(real, scores, strict=True):
                    mixed[b, i, part] += score / sum(scores) * v[b, j, part]
    return mixed @ layer.out.weight.T + layer.out.bias


def test_attention_is_softmax_over_the_real() -> None:
    layer = Attention(8, heads=2).double()
    values = torch.randn(2, 5, 8, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    with torch.no_grad():
        torch.testing.assert_close(layer(values, mask), attention_loop(layer, values, mask))


def test_masked_tokens_have_no_influence() -> None:
    stack = Transformer(8, depth=2, heads=2).double()
    pool = AttentionPool(8, heads=2).double()
    values = torch.randn(1, 6, 8, dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False, False, False]])
    changed = torch.where(mask[..., None], values, 100.0)
    for reduce in (masked_mean, pool):
        before, after = reduce(stack(values, mask), mask), reduce(stack(changed, mask), mask)
        torch.testing.assert_close(after, before)
        torch.testing.assert_close(reduce(stack(values[:, :3], mask[:, :3]), mask[:, :3]), before)


def test_masked_mean_by_hand() -> None:
    values = torch.tensor([[[1.0], [3.0], [100.0]], [[7.0], [8.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(masked_mean(values, mask), torch.tensor([[2.0], [0.0]]))


def test_heads_must_divide() -> None:
    with pytest.raises(UserError, match="heads=3 and width=8"):
        Transformer(8, depth=1, heads=3)
