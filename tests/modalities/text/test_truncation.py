"""Every tokenizer states which texts it cuts: exactly those whose last words do not change their tokens."""

import json
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from modalities.text import MODALITY
from modalities.text.tfidf_transform import Item, NgramSettings, NgramTransform
from modalities.text.tokenizers.bpe import JsonTokenizer, train_bpe
from modalities.text.transform import TextSettings, TextTransform

WORDS = ["a", "very", "long", "report", "about", "many", "things", "seen", "in", "one", "small", "picture"]


def bpe() -> TextTransform:
    return TextTransform(TextSettings(max_length=9), train_bpe([" ".join(WORDS)] * 2, vocab_size=400, max_length=9))


def iupac() -> TextTransform:
    tokenizer = train_bpe([" ".join(WORDS)] * 2, vocab_size=400, max_length=9, iupac=True)
    return TextTransform(TextSettings(max_length=9, tokenizer="iupac"), tokenizer)


def hugging_face() -> TextTransform:
    """A tokenizer of the Hugging Face format, with a start and an end."""
    words = {word: number for number, word in enumerate(["[S]", "[E]", "[U]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[U]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[S] $A [E]", None, [("[S]", 0), ("[E]", 1)])
    return TextTransform(TextSettings(max_length=9), JsonTokenizer(json.loads(tokenizer.to_str()), 9))


def clip() -> TextTransform:
    pytest.importorskip("open_clip")
    from modalities.text.tokenizers.bpe import ClipTokenizer

    return TextTransform(TextSettings(max_length=9), ClipTokenizer(9), fixed=True)


def tfidf() -> NgramTransform:
    transform = NgramTransform(NgramSettings(max_length=7, min_count=1))
    transform.fit([" ".join(WORDS)])
    return transform


def tokens(transform: TextTransform | NgramTransform, text: str) -> object:
    item = transform.item(text)
    return (item.grams.tolist(), item.words_total) if isinstance(item, Item) else item


@pytest.mark.parametrize("make", [bpe, iupac, hugging_face, clip, tfidf])
def test_a_text_is_truncated_where_its_end_does_not_count(make: Callable[[], TextTransform | NgramTransform]) -> None:
    transform = make()
    states = []
    for count in range(1, len(WORDS) + 1):
        text = " ".join(WORDS[:count])
        longer = f"{text} {WORDS[0]}"
        states.append(transform.truncates(text))
        if states[-1]:
            assert tokens(transform, longer) == tokens(transform, text)
        elif not transform.truncates(longer):
            assert tokens(transform, longer) != tokens(transform, text)
    first = states.index(True)
    assert all(states[first:])
    assert not any(states[:first])
    assert 0 < first < len(WORDS)


def test_exactly_the_limit_is_not_truncated() -> None:
    assert not hugging_face().truncates(" ".join(WORDS[:7]))  # and two special tokens
    assert hugging_face().truncates(" ".join(WORDS[:8]))
    assert not tfidf().truncates(" ".join(WORDS[:7]))
    assert tfidf().truncates(" ".join(WORDS[:8]))


def test_texts_that_become_equal_are_truncated() -> None:
    transform = MODALITY.transform("transformer", {})
    texts = ["a very long report about many things seen " * 30 + end for end in ("healthy", "very ill")]
    transform.fit(texts * 2)
    assert transform(texts[0]) == transform(texts[1])
    assert all(transform.truncates(text) for text in texts)
    assert transform.truncation == "64 word pieces (transform.max_length)"
