"""Phrases: where they end, which pieces they have, what is pooled of them."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mmalign
from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.types import Batch
from modalities.text import MODALITY
from modalities.text.phrases import MOST_WORDS, phrase_ends, phrase_of_each_piece, pool_phrases
from modalities.text.tokenizers.bpe import CLASS, JsonTokenizer, train_bpe
from modalities.text.transform import TextSettings, TextTransform
from tests.gradients import gradcheck

TEXTS = [
    "It is a member of phenols, a 2,6-dihydroxybutanoate(1-) and an aromatic ether.",
    "a red disc",
    "日本 is 🦀 (naïve) of CAFÉ and ﬁne",
    "x" * 300 + " of " + "y " * 40,
]
TINY_CLIP: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def split(text: str) -> list[str]:
    starts = [0, *phrase_ends(text)]
    return [text[start:stop].strip() for start, stop in itertools.pairwise(starts)]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("a red disc", ["a red disc"]),
        ("It derives from a phenol and is acidic.", ["It derives from a phenol", "and is acidic."]),
        ("red, blue; green: grey. Black! White? end", ["red,", "blue;", "green:", "grey.", "Black!", "White?", "end"]),
        ("a 1,2-diol of 3.5 volts", ["a 1,2-diol", "of 3.5 volts"]),  # marks inside a word end nothing
        ("lactic acid (also known as E270) is sour", ["lactic acid", "(also known", "as E270)", "is sour"]),
        ("some (R)-lactic acid here", ["some (R)-lactic acid here"]),
        ("poly(vinyl chloride) pipe", ["poly(vinyl chloride)", "pipe"]),
        ("red [ and blue ] disc", ["red", "[ and blue ]", "disc"]),
        ("the good (2R,3S)-2,3-dihydroxybutanoic acid anion forms",
         ["the good", "(2R,3S)-2,3-dihydroxybutanoic acid anion", "forms"]),
        ("salt of 2-aminobutanoate today", ["salt", "of 2-aminobutanoate", "today"]),
        ("the tetrahydroisoquinolines here", ["the tetrahydroisoquinolines", "here"]),
        ("one two three four five six seven eight nine", ["one two three four five six seven eight", "nine"]),
        ("a disc . a square", ["a disc .", "a square"]),
        ("( a", ["( a"]),
        (", ,", [", ,"]),
        ("  red  ", ["red"]),
        (" \t\n", []),
        ("", []),
    ],
)  # fmt: skip
def test_ends_of_phrases(text: str, phrases: list[str]) -> None:
    assert split(text) == phrases


def test_phrases_are_of_bounded_length_and_leave_nothing_out() -> None:
    rng = np.random.default_rng(0)
    words = ["a", "of", "red", "(x", "y)", "end.", "2,3-dihydroxyhexane", ",", "acid", "It", "]"]
    for _ in range(300):
        text = " ".join(rng.choice(words, rng.integers(1, 40)))
        phrases = split(text)
        assert " ".join(phrases) == text
        assert all(1 <= sum(any(map(str.isalnum, word)) for word in phrase.split()) <= MOST_WORDS
                   for phrase in phrases[1:])  # fmt: skip


def test_pieces_are_numbered_over_the_phrases_that_have_one() -> None:
    assert phrase_of_each_piece([-1, 2, 4, 4, 9, 12, -1], [4, 6, 9, 11]) == [-1, 0, 0, 0, 1, 2, -1]
    assert phrase_of_each_piece([-1, 0, 3], [3]) == [-1, 0, 0]  # a piece of no width
    assert phrase_of_each_piece([-1, 3], []) == [-1, 0]
    assert phrase_of_each_piece([-1, -1], [3]) == [0, 0]
    assert phrase_of_each_piece([], []) == []


def reference(values: Tensor, mask: Tensor, phrases: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The definition, in a loop."""
    pooled = torch.zeros(len(values), most, values.shape[2], dtype=torch.float64)
    found = torch.zeros(len(values), most, dtype=torch.bool)
    for row in range(len(values)):
        for phrase in range(most):
            members = [t for t in range(values.shape[1]) if mask[row, t] and phrases[row, t] == phrase]
            if members:
                pooled[row, phrase] = sum(values[row, t].double() for t in members) / len(members)
                found[row, phrase] = True
    return pooled, found


def example() -> tuple[Tensor, Tensor, Tensor]:
    values = torch.randn(6, 9, 5, dtype=torch.float64)
    mask = torch.rand(6, 9) < 0.8
    return values, mask, torch.randint(-1, 4, (6, 9))


def test_pooled_values_and_gradients_are_the_definition() -> None:
    values, mask, phrases = example()
    values.requires_grad_()
    weight = torch.randn(6, 4, 5, dtype=torch.float64)
    found = pool_phrases(values, mask, phrases)
    expected, there = reference(values, mask, phrases, 4)
    torch.testing.assert_close(found.values, expected)
    torch.testing.assert_close(found.mask, there)
    (gradient,) = torch.autograd.grad((found.values * weight).sum(), values)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), values)
    torch.testing.assert_close(gradient, wanted)
    assert gradcheck(lambda v: pool_phrases(v, mask, phrases).values, values)


def test_pooling_ignores_padding_rows_and_positions() -> None:
    values, mask, phrases = example()
    found = pool_phrases(values, mask, phrases)
    order = torch.randperm(6)
    permuted = pool_phrases(values[order], mask[order], phrases[order])
    torch.testing.assert_close(permuted.values, found.values[order], atol=0, rtol=0)
    long = torch.nn.functional.pad(values, (0, 0, 0, 3), value=float("nan")).requires_grad_()
    wider = pool_phrases(long, torch.nn.functional.pad(mask, (0, 3)), torch.nn.functional.pad(phrases, (0, 3)), 7)
    torch.testing.assert_close(wider.values[:, :4], found.values, atol=0, rtol=0)
    torch.testing.assert_close(wider.mask[:, :4], found.mask)
    assert not wider.mask[:, 4:].any()
    assert not wider.values[:, 4:].any()
    (gradient,) = torch.autograd.grad(wider.values.sum(), long)
    assert gradient.isfinite().all()


def test_phrase_pooling_is_float32_and_traceable_on_meta() -> None:
    values, mask, phrases = example()
    half = pool_phrases(values.bfloat16(), mask, phrases).values
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, pool_phrases(values.bfloat16().float(), mask, phrases).values)
    # A tensor on `meta` has no values: whatever asks for one, and would make a GPU wait, raises.
    shape = pool_phrases(values.to("meta"), mask.to("meta"), phrases.to("meta"), 4).values.shape
    assert shape == (6, 4, 5)
    assert pool_phrases(values.to("meta"), mask.to("meta"), phrases.to("meta")).mask.shape == (6, 9)


def transforms() -> dict[str, TextTransform]:
    made = {name: TextTransform(TextSettings(max_length=64, tokenizer=name, phrases=True)) for name in ("bpe", "iupac")}
    for transform in made.values():
        transform.fit(TEXTS)
    plain = train_bpe(TEXTS, vocab_size=400, max_length=64).config()["json"]
    made["json"] = TextTransform(TextSettings(max_length=64, phrases=True), JsonTokenizer(plain, 64))
    return made


@pytest.mark.parametrize("name", ["bpe", "iupac", "json", "clip"])
def test_phrases_partition_the_pieces(name: str) -> None:
    if name == "clip":
        pytest.importorskip("open_clip")
        transform = MODALITY.transform("open_clip", {"model": TINY_CLIP, "phrases": True})
    else:
        transform = transforms()[name]
    for text in TEXTS:
        item = transform.item(text)
        ids, spans, spelled = transform.tokenizer.pieces(text)
        assert item.ids == ids == transform.tokenizer(text)
        numbers = [phrase for phrase, span in zip(item.phrases, spans, strict=True) if span is not None]
        assert numbers[0] == 0
        assert all(0 <= after - before <= 1 for before, after in itertools.pairwise(numbers))
        assert all(phrase == -1 for phrase, span in zip(item.phrases, spans, strict=True) if span is None)
        # The letters of each phrase's pieces are those of the phrase, as far as the text is not cut off.
        wanted = split(spelled)
        for number in range(max(numbers)):
            inside = [span for phrase, span in zip(item.phrases, spans, strict=True) if phrase == number]
            assert spelled[inside[0][0] : inside[-1][1]].strip() == wanted[number]


def test_an_empty_text_is_one_phrase() -> None:
    for name in ("bpe", "iupac"):
        transform = transforms()[name]
        inputs = transform.collate([transform.item(""), transform.item(TEXTS[0]), transform.item(" ")])
        assert inputs["phrase"][0].tolist()[:2] == [0, -1]
        assert inputs["phrase_mask"].any(1).all()
        assert transform.item("").ids == [CLASS]


def test_collated_phrases() -> None:
    transform = transforms()["bpe"]
    items = [transform.item(text) for text in TEXTS]
    inputs = transform.collate(items)
    assert inputs["phrase"].shape == inputs["tokens"].shape
    assert inputs["phrase"].dtype == torch.int64
    assert inputs["phrase_mask"].sum(1).tolist() == [max(item.phrases) + 1 for item in items]
    for row, item in enumerate(items):
        assert inputs["phrase"][row, : len(item.phrases)].tolist() == item.phrases
        assert (inputs["phrase"][row, len(item.phrases) :] == -1).all()
    again = TextTransform.restore(json.loads(json.dumps(transform.config())))
    for key, value in again.collate([again(text) for text in TEXTS]).items():
        torch.testing.assert_close(value, inputs[key], atol=0, rtol=0)


def test_words_left_out_in_training_are_in_no_phrase() -> None:
    transform = TextTransform(TextSettings(word_dropout=0.5, phrases=True))
    transform.fit(TEXTS)
    for seed in range(30):
        item = transform.item(TEXTS[0], np.random.default_rng(seed))
        assert len(item.ids) == len(item.phrases)
        assert item.phrases[0] == -1
        assert sorted(set(item.phrases[1:])) == list(range(max(item.phrases) + 1))


def encoders(tmp_path: Path) -> dict[str, tuple[TextTransform, Encoder]]:
    pytest.importorskip("open_clip")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "disc", "of", "the"]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=24
    ).save_pretrained(tmp_path)
    bert = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=24,
    )  # fmt: skip
    transformers.BertModel(bert).save_pretrained(tmp_path)
    given: dict[str, dict[str, Any]] = {
        "transformer": {"width": 16, "depth": 1, "heads": 2},
        "open_clip": {"model": TINY_CLIP},
        "huggingface": {"model": str(tmp_path)},
    }
    made = {}
    for name, args in given.items():
        transform = MODALITY.transform(name, {**args, "phrases": True})
        transform.fit(TEXTS)
        made[name] = transform, MODALITY.encoder(name, transform, **args, phrases=True).eval()
    return made


def test_encoders_give_the_means_of_their_tokens(tmp_path: Path) -> None:
    for name, (transform, encoder) in encoders(tmp_path).items():
        inputs = transform.collate([transform.item(text) for text in TEXTS])
        features = encoder(inputs)
        assert encoder.part_width == encoder.token_width == 16, name
        expected, there = reference(
            features.tokens.values, inputs["mask"], inputs["phrase"], inputs["phrase_mask"].shape[1]
        )
        torch.testing.assert_close(features.parts.values.double(), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(features.parts.mask, there)
        torch.testing.assert_close(features.parts.mask, inputs["phrase_mask"])
        ends = inputs["phrase"].gather(1, inputs["mask"].sum(1, keepdim=True) - 1)
        assert (inputs["phrase"][:, 0] == -1).all(), f"{name}: its first token is a special one"
        assert name == "transformer" or (ends == -1).all(), f"{name}: its last token is a special one"
        again = MODALITY.restore_transform(json.loads(json.dumps(transform.config())))
        rebuilt = MODALITY.encoder(name, again, **json.loads(json.dumps(encoder.config())))
        assert rebuilt.part_width == 16


def test_phrases_are_optional(tmp_path: Path) -> None:
    transform = MODALITY.transform("transformer", {"phrases": False})
    transform.fit(TEXTS)
    inputs = transform.collate([transform.item(text) for text in TEXTS])
    assert inputs.keys() == {"tokens", "mask"}
    encoder = MODALITY.encoder("transformer", transform, width=16, depth=1, heads=2)
    assert encoder.part_width is None
    assert encoder(inputs).parts is None
    with pytest.raises(UserError, match=r"set transform: \{phrases: true\}"):
        MODALITY.encoder("transformer", transform, phrases=True)
    found = MODALITY.transform("transformer", {}, phrases=True)
    found.fit(TEXTS)
    asked = found.collate([found(text) for text in TEXTS])
    assert MODALITY.encoder("transformer", found, width=16, depth=1, heads=2)(asked).parts is None
    with pytest.raises(UserError, match="expected true or false as phrases"):
        MODALITY.transform("transformer", {}, phrases=1)


def test_a_model_of_phrases_trains_and_loads_from_its_bundle(tmp_path: Path) -> None:
    towers = {
        name: TowerConfig(
            modality="text", args={"width": 16, "depth": 1, "heads": 2, "phrases": True}, transform={"tokenizer": kind}
        )
        for name, kind in (("plain", "bpe"), ("chemical", "iupac"))
    }
    terms = [
        PairConfig(a="plain", b="chemical", objective="transport", args={"level_a": "parts", "level_b": level})
        for level in ("parts", "tokens")
    ]
    model = Aligner(towers, terms, 8, fit_transforms(towers, dict.fromkeys(towers, TEXTS)))
    transforms, rows = model.transforms, torch.arange(len(TEXTS))
    inputs = {name: transforms[name].collate([transforms[name].item(text) for text in TEXTS]) for name in towers}
    batch = Batch(inputs, dict.fromkeys(towers, rows), rows, rows)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = model.loss(batch).loss.detach()
    for _ in range(20):
        optimizer.zero_grad()
        loss = model.loss(batch).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * first
    again = mmalign.load(mmalign.save(model, tmp_path / "bundle"))
    for name in towers:
        assert [again.transforms[name].item(text) for text in TEXTS] == [transforms[name].item(text) for text in TEXTS]
        before, after = model.eval().encode(name, TEXTS), again.encode(name, TEXTS)
        torch.testing.assert_close(after.parts.values, before.parts.values)


@pytest.mark.real
def test_phrases_of_real_descriptions(real_data: Path) -> None:
    """ChEBI-20's validation texts: a dozen phrases each, none of more than eight words, names whole."""
    lines = (real_data / "chebi20" / "validation.txt").read_text(encoding="utf-8").splitlines()[1:]
    counts = []
    for line in lines:
        text = line.split("\t")[2]
        phrases = split(text)
        assert "".join(phrases).replace(" ", "") == text.replace(" ", "")
        assert max(len(phrase.split()) for phrase in phrases) <= MOST_WORDS
        counts.append(len(phrases))
    assert 10 <= np.median(counts) <= 16
