"""Learnt context before texts: equal to words from which it starts, to nothing without vectors, with any encoder."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Inputs
from modalities.text import MODALITY
from modalities.text.encoders.prompted import PromptedText
from modalities.text.transform import TextTransform

WORDS = "a picture of"
TEXTS = ["a red disc", "green", "a blue square of a disc"]
MODELS = {
    "transformer": ("", {"width": 16, "depth": 2, "heads": 2, "pool": "class"}),
    "open_clip": ("tiny_clip", {}),
    "huggingface": ("tiny_bert", {}),
    "huggingface_dual": ("tiny_dual", {}),
    "sentence_transformers": ("tiny_sentence", {}),
}


def built(name: str, request: pytest.FixtureRequest, **settings: Any) -> tuple[TextTransform, Encoder]:
    fixture, args = MODELS[name]
    args = {**args, **({"model": request.getfixturevalue(fixture)} if fixture else {})}
    transform = MODALITY.transform(name, args, **settings)
    assert isinstance(transform, TextTransform)
    transform.fit([f"{WORDS} {text}" for text in TEXTS] * 3)
    return transform, MODALITY.encoder(name, transform, **args).eval()


def collated(transform: TextTransform, texts: list[str]) -> Inputs:
    return transform.collate([transform.item(text) for text in texts])


def behind(name: str, encoder: Encoder, transform: TextTransform, context: int, *starts: str) -> PromptedText:
    kind, prompted = MODALITY.with_context(name, encoder, transform, context=context, starts=starts or ("",))
    assert kind == "prompted"
    assert isinstance(prompted, PromptedText)
    return prompted.eval()


@pytest.mark.parametrize("name", [*MODELS])
def test_a_context_that_starts_from_words_equals_the_words(name: str, request: pytest.FixtureRequest) -> None:
    transform, encoder = built(name, request)
    spans = transform.tokenizer.pieces(WORDS).spans
    count = sum(span is not None for span in spans)
    prompted = behind(name, encoder, transform, count, WORDS)
    expected = encoder(collated(transform, [f"{WORDS} {text}" for text in TEXTS]))
    features = prompted(collated(transform, TEXTS))
    torch.testing.assert_close(features.vector, expected.vector, atol=1e-6, rtol=1e-5)
    assert torch.equal(features.tokens.mask, expected.tokens.mask)  # type: ignore[union-attr]
    with pytest.raises(AssertionError):
        torch.testing.assert_close(behind(name, encoder, transform, count)(collated(transform, TEXTS)).vector,
                                   expected.vector)  # fmt: skip


@pytest.mark.parametrize("name", [*MODELS])
def test_no_context_is_the_inner_encoder(name: str, request: pytest.FixtureRequest) -> None:
    transform, encoder = built(name, request)
    inputs = collated(transform, TEXTS)
    assert torch.equal(behind(name, encoder, transform, 0)(inputs).vector, encoder(inputs).vector)


@pytest.mark.parametrize("name", ["open_clip", "huggingface"])
def test_truncated_text_keeps_its_end_token(name: str, request: pytest.FixtureRequest) -> None:
    transform, encoder = built(name, request)
    text = " ".join(["red"] * 30)
    ids = transform.item(text)
    assert len(ids) == transform.settings.max_length
    prompted = behind(name, encoder, transform, 3)
    longer = prompted._with_room(collated(transform, ["red", text]))
    assert longer["tokens"][1].tolist() == ids  # three words fewer, three places more
    assert longer["tokens"][0][longer["mask"][0]].tolist() == [ids[0], *[ids[1]] * 4, ids[-1]]


def test_padding_mask_and_phrases_include_the_context(request: pytest.FixtureRequest) -> None:
    transform, encoder = built("transformer", request, phrases=True)
    prompted = behind("transformer", encoder, transform, 2)
    alone, both = (prompted._with_room(collated(transform, texts)) for texts in (TEXTS[1:2], TEXTS))
    length = alone["tokens"].shape[1]
    for field, pad in (("tokens", transform.tokenizer.pad), ("phrase", -1), ("mask", False)):
        assert both[field][1, :length].tolist() == alone[field][0].tolist()
        assert set(both[field][1, length:].tolist()) == {pad}
    assert alone["phrase"][0, 1:3].tolist() == [-1, -1]
    assert alone["phrase"][0, 3] == 0
    whole = prompted(collated(transform, TEXTS)).vector
    torch.testing.assert_close(prompted(collated(transform, TEXTS[1:2])).vector[0], whole[1])


def test_several_experts_are_the_mean_of_each(request: pytest.FixtureRequest) -> None:
    transform, encoder = built("transformer", request)
    prompted = behind("transformer", encoder, transform, 3, WORDS, "", "")
    inputs = collated(transform, TEXTS)
    each = [prompted({**inputs, "expert": index}).vector for index in range(3)]
    torch.testing.assert_close(prompted(inputs).vector, torch.stack(each).mean(0))
    assert not torch.allclose(each[0], each[1])
    one = behind("transformer", encoder, transform, 3, WORDS)
    torch.testing.assert_close(each[0], one(inputs).vector)


def test_gradients_reach_the_context_and_no_hook_stays(request: pytest.FixtureRequest) -> None:
    transform, encoder = built("huggingface", request)
    prompted = behind("huggingface", encoder, transform, 2)
    encoder.requires_grad_(False)
    prompted(collated(transform, TEXTS)).vector.square().sum().backward()
    assert prompted.context.grad is not None
    assert all(row.any() for row in prompted.context.grad[0])
    assert not encoder.token_table()._forward_hooks  # type: ignore[operator]
    before: Tensor = encoder(collated(transform, TEXTS)).vector
    assert torch.equal(before, prompted.inner(collated(transform, TEXTS)).vector)


def test_encoder_is_restored_from_its_configuration(request: pytest.FixtureRequest) -> None:
    transform, encoder = built("transformer", request)
    prompted = behind("transformer", encoder, transform, 2, "a", "red")
    again = MODALITY.encoder("prompted", TextTransform.restore(transform.config()), **prompted.config())
    again.load_state_dict(prompted.state_dict())
    inputs = collated(transform, TEXTS)
    assert torch.equal(again.eval()(inputs).vector, prompted(inputs).vector)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"encoder": "prompted"}, "expected another encoder inside"),
        ({"encoder": "no such"}, "no encoder 'no such'"),
        ({"args": {"pretrained": "weights.bin"}}, "a bundle describes its model"),
        ({"context": 63}, "expected context from 0 to 62 vectors, got 63"),
        ({"experts": 0}, "expected 1 to 64 experts, got 0"),
    ],
)
def test_invalid_encoders_and_sizes_are_errors(
    args: dict[str, Any], message: str, request: pytest.FixtureRequest
) -> None:
    transform, _ = built("transformer", request)
    with pytest.raises(UserError, match=message):
        MODALITY.encoder("prompted", TextTransform.restore(transform.config()), **args)


def test_encoders_without_token_embeddings_are_refused_by_name() -> None:
    transform = MODALITY.transform("tfidf", {})
    transform.fit(TEXTS)
    encoder = MODALITY.encoder("tfidf", transform)
    with pytest.raises(UserError, match="encoder 'tfidf' has no token embeddings, so it cannot have a learnt context"):
        MODALITY.with_context("tfidf", encoder, transform, context=2, starts=[""])
