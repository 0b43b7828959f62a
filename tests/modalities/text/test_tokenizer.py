"""Tokenizers: trained here, of the Hugging Face format, CLIP's."""

import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from mmalign.errors import UserError
from modalities.text.tokenizer import (
    CLASS,
    SPECIALS,
    BpeTokenizer,
    ClipTokenizer,
    JsonTokenizer,
    restore_tokenizer,
    train_bpe,
)

CORPUS = [f"a {size} {colour} {shape}" for size in ("small", "large", "tiny") for colour in ("red", "green", "blue")
          for shape in ("disc", "square", "triangle")]  # fmt: skip


def bpe(**settings: int) -> BpeTokenizer:
    return train_bpe(CORPUS, **{"vocab_size": 400, "max_length": 16, **settings})


@pytest.mark.parametrize(
    "text", ["a red disc", "日本語", "🦀 crab", "naïve café", "\x00\x07", "x" * 500, "[PAD] [CLS] <s>"]
)
def test_nothing_is_unknown(text: str) -> None:
    tokenizer = bpe(max_length=4096)
    ids = tokenizer(text)
    assert ids[0] == CLASS
    assert all(SPECIALS <= piece < tokenizer.vocab_size for piece in ids[1:]), "text reached a special token"
    back = tokenizer.tokenizer.decode([piece - SPECIALS for piece in ids[1:]])
    assert back.strip() == " ".join(unicodedata.normalize("NFKC", text).lower().split())


def test_levels_case_width_and_space() -> None:
    tokenizer = bpe()
    assert tokenizer("  A\tRED \n ｄｉｓｃ ") == tokenizer("a red disc")


def test_frequent_words_become_one_piece() -> None:
    assert len(bpe()("large green triangle")) == 1 + 3


def test_length_and_vocabulary_are_bounds() -> None:
    assert len(bpe(max_length=3)("a small red disc")) == 3
    for size in (258, 270, 400):
        assert bpe(vocab_size=size).vocab_size <= size


def test_equal_corpora_give_equal_tokenizers() -> None:
    """In any order, and in any process: hash seeds and threads play no part."""
    shuffled = CORPUS.copy()
    random.Random(0).shuffle(shuffled)
    assert train_bpe(shuffled, vocab_size=400, max_length=16).config() == bpe().config()
    program = (
        "import json, sys; from modalities.text.tokenizer import train_bpe; "
        "print(json.dumps(train_bpe(json.loads(sys.argv[1]), vocab_size=400, max_length=16).config(), sort_keys=True))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, json.dumps(CORPUS)],
        env=os.environ | {"PYTHONHASHSEED": "1", "TOKENIZERS_PARALLELISM": "true"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout) == json.loads(json.dumps(bpe().config()))


def test_no_text_no_tokenizer() -> None:
    with pytest.raises(UserError, match="no text to train a tokenizer on"):
        train_bpe([], vocab_size=300, max_length=8)


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_clip_tokens_are_open_clips(clean: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.SimpleTokenizer(context_length=12, clean=clean)
    ours = ClipTokenizer(12, clean)
    for text in (
        "a photo of a cat",
        "Straße & <br> naïve",
        "one two three four five six seven eight nine ten eleven",
        "!",
    ):
        ids = ours(text)
        assert theirs([text])[0].tolist() == ids + [0] * (12 - len(ids))
    assert restore_tokenizer(json.loads(json.dumps(ours.config())))("A cat") == ours("A cat")


def test_json_tokenizers_come_back() -> None:
    whole = JsonTokenizer(bpe().config()["json"], 6, pad=3, clean="canonicalize", blank=70)
    again = restore_tokenizer(json.loads(json.dumps(whole.config())))
    for text in ("A red, red disc!", "one two three four five six seven"):
        assert again(text) == whole(text)
        assert len(again(text)) <= 6
        assert 70 not in again(text)
    assert again.pad == 3


@pytest.mark.parametrize("config", [{"kind": "sp"}, {"kind": "bpe", "json": {"a": 1}, "max_length": 4}, {}])
def test_what_is_no_tokenizer(config: dict[str, object]) -> None:
    with pytest.raises(UserError, match="tokenizer"):
        restore_tokenizer(config)


@pytest.mark.real
def test_real_names(real_data: Path) -> None:
    """1,405 emoji names: no piece is unknown, and names seen in training are a few pieces long."""
    lines = (real_data / "noto_emoji" / "names.tsv").read_text(encoding="utf-8").splitlines()[1:]
    names = [line.split("\t")[2] for line in lines]
    tokenizer = train_bpe(names, vocab_size=2048, max_length=64)
    lengths = [len(tokenizer(name)) - 1 for name in names]
    assert sum(lengths) / sum(len(name.split()) for name in names) < 2
