import pytest
import torch
from torch.testing import assert_close

from mmalign.types import Batch, Embedding, Tokens


def test_tokens_of_unequal_length_join_with_padding() -> None:
    short = Tokens(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))
    long = Tokens(torch.full((2, 4, 3), 2.0), torch.ones(2, 4, dtype=torch.bool))
    joined = Tokens.cat([short, long])
    assert joined.values.shape == (3, 4, 3)
    assert joined.mask.tolist() == [[True, True, False, False], [True] * 4, [True] * 4]
    assert_close(joined.values[0, 2:], torch.zeros(2, 3))


def test_embedding_rows_and_join_keep_every_field() -> None:
    tokens = Tokens(torch.randn(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))
    whole = Embedding(torch.randn(3, 4), log_variance=torch.randn(3, 4), tokens=tokens, tower="left")
    again = Embedding.cat([whole[:1], whole[torch.tensor([1, 2])]])
    assert_close(again.vector, whole.vector)
    assert_close(again.log_variance, whole.log_variance)
    assert again.tokens is not None
    assert_close(again.tokens.values, tokens.values)
    assert again.codes is None
    assert again.tower == "left"


def test_a_mask_keeps_its_dtype() -> None:
    tokens = Tokens(torch.randn(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))
    moved = Embedding(torch.randn(3, 4), tokens=tokens).to("cpu", torch.float64)
    assert moved.vector.dtype == torch.float64
    assert moved.tokens is not None
    assert moved.tokens.values.dtype == torch.float64
    assert moved.tokens.mask.dtype == torch.bool


def test_joining_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Embedding.cat([])


def test_batch_moves_nested_tensors() -> None:
    inputs = {"left": {"values": torch.ones(2), "names": ["a", "b"]}}
    batch = Batch(inputs, {"left": torch.arange(2)}, torch.arange(2), torch.arange(2))
    moved = batch.to("meta")
    assert moved.inputs["left"]["values"].device.type == "meta"
    assert moved.inputs["left"]["names"] == ["a", "b"]
    assert moved.groups.device.type == "meta"
