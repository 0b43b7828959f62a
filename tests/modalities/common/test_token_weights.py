"""Token weights: the attention of a class token or of a pooling, against the equation and other implementations."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.registry import load
from modalities.common.encoders.transformer import Attention, AttentionPool, Transformer

SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2}
TEXTS = ["a red disc of a picture", "blue", "a green square"]


def test_attention_of_the_first_position_equals_torch() -> None:
    torch.manual_seed(0)
    made, mask = Attention(8, 2), torch.tensor([[True] * 4, [True, True, False, False]])
    values = torch.randn(2, 4, 8)
    peer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(made.qkv.weight)
        peer.in_proj_bias.copy_(made.qkv.bias)
    expected = peer(values, values, values, key_padding_mask=~mask)[1][:, 0].detach()
    expected[:, 0] = 0.0
    assert_close(made.of_first(values, mask), expected)
    assert_close(made.of_first(values[:1]), expected[:1])


def test_attention_of_a_pooling_equals_the_equation() -> None:
    torch.manual_seed(0)
    made, mask = AttentionPool(8, 2), torch.tensor([[True] * 4, [True, False, True, False]])
    values = torch.randn(2, 4, 8)
    weights = made.weights(values.masked_fill(~mask[:, :, None], torch.nan).nan_to_num(), mask)
    for row in range(2):
        real = values[row, mask[row]].unflatten(1, (2, 4))
        scores = torch.einsum("lhd,hd->hl", real, made.query.detach().view(2, 4)) / 2
        assert_close(weights[row, mask[row]], scores.softmax(1).mean(0))
    assert not weights[~mask].any()


def test_the_stack_computes_the_same_with_weights() -> None:
    torch.manual_seed(0)
    layers, mask = Transformer(8, depth=3, heads=2), torch.tensor([[True] * 4, [True, True, False, False]])
    values = torch.randn(2, 4, 8)
    assert_close(layers.with_first_attention(values, mask)[0][mask], layers(values, mask)[mask], rtol=0, atol=0)


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "text transformer": ("text", "transformer", {**SMALL, "pool": "class"}),
    "vit": ("image", "vit", {**SMALL, "patch": 8, "size": 16, "pool": "attention"}),
    "ecg patches": ("ecg", "patches", {**SMALL, "patch": 100, "pool": "attention"}),
}


@pytest.mark.parametrize("case", list(CASES))
def test_encoders_return_weights_where_asked_and_nothing_else_changes(case: str) -> None:
    name, kind, args = CASES[case]
    modality = load("modalities", name)
    transform = modality.transform(kind, args)
    samples = TEXTS if name == "text" else [modality.toy_sample(k, np.random.default_rng(k)) for k in range(3)]
    transform.fit([transform.featurise(sample) for sample in samples])
    inputs = transform.collate([transform.item(sample) for sample in samples])
    torch.manual_seed(0)
    plain = modality.encoder(kind, transform, **args).eval()
    torch.manual_seed(0)
    weighted = modality.encoder(kind, transform, **args, token_weights=True).eval()
    first, second = plain(inputs), weighted(inputs)
    assert first.tokens.weight is None
    weight = second.tokens.weight
    assert_close(second.vector, first.vector, rtol=0, atol=0)
    assert_close(second.tokens.values, first.tokens.values, rtol=0, atol=0)
    assert weight.shape == second.tokens.mask.shape
    assert not weight[~second.tokens.mask].any()
    assert not weight.requires_grad
    assert (weight >= 0).all()
    assert (weight.sum(1) <= 1 + 1e-6).all()
    assert weighted.config()["token_weights"] is True
    assert "token_weights" not in plain.config()
    with pytest.raises(UserError, match="token_weights"):
        modality.encoder(kind, transform, **{**args, "pool": "mean"}, token_weights=True)


def test_huggingface_weights_are_the_models_own_attention(tiny_bert: str) -> None:
    transformers = pytest.importorskip("transformers")
    modality = load("modalities", "text")
    transform = modality.transform("huggingface", {"model": tiny_bert})
    encoder = modality.encoder("huggingface", transform, model=tiny_bert, pool="cls", token_weights=True).eval()
    inputs = transform.collate([transform.item(text) for text in TEXTS])
    features = encoder(inputs)
    peer = transformers.AutoModel.from_pretrained(tiny_bert, attn_implementation="eager").eval()
    outputs = peer(inputs["tokens"], attention_mask=inputs["mask"].long(), output_attentions=True)
    expected = outputs.attentions[-1][:, :, 0].mean(1).masked_fill(~inputs["mask"], 0.0).detach()
    expected[:, 0] = 0.0
    assert_close(features.tokens.weight, expected)
    plain = modality.encoder("huggingface", transform, model=tiny_bert, pool="cls").eval()
    assert plain(inputs).tokens.weight is None
    assert_close(features.vector, plain(inputs).vector, rtol=1e-4, atol=1e-5)


def test_timm_weights_are_the_attention_of_the_class_token() -> None:
    pytest.importorskip("timm")
    modality = load("modalities", "image")
    args = {"model": "vit_tiny_patch16_224", "args": {"img_size": 32, "depth": 1}, "token_weights": True}
    transform = modality.transform("timm", args, size=32)
    torch.manual_seed(0)
    encoder = modality.encoder("timm", transform, **args).eval()
    inputs = transform.collate([transform.item(modality.toy_sample(k, np.random.default_rng(k))) for k in range(2)])
    attention, seen = encoder.model.blocks[-1].attn, []
    attention.fused_attn = False
    hook = attention.attn_drop.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    features = encoder(inputs)
    hook.remove()
    assert_close(features.tokens.weight, seen[0].mean(1)[:, 0, 1:].detach())
    assert features.tokens.weight.shape == (2, 4)
    with pytest.raises(UserError, match="has no class token"):
        modality.encoder(
            "timm", modality.transform("timm", {"model": "resnet10t"}), model="resnet10t", token_weights=True
        )
