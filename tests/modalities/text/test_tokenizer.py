"""Tokenizers: trained here, of the Hugging Face format, CLIP's."""

import json
import os
import random
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from mmalign.errors import UserError
from modalities.text.tokenizers.bpe import (
    CLASS,
    SPECIALS,
    BpeTokenizer,
    ClipTokenizer,
    JsonTokenizer,
    restore_tokenizer,
    train_bpe,
)
from modalities.text.tokenizers.chemical_names import MORPHEMES, chemical_pre_tokenizer

CORPUS = [f"a {size} {colour} {shape}" for size in ("small", "large", "tiny") for colour in ("red", "green", "blue")
          for shape in ("disc", "square", "triangle")]  # fmt: skip


def bpe(**settings: int) -> BpeTokenizer:
    return train_bpe(CORPUS, **{"vocab_size": 400, "max_length": 16, **settings})


@pytest.mark.parametrize(
    "text", ["a red disc", "日本語", "🦀 crab", "naïve café", "\x00\x07", "x" * 500, "[PAD] [CLS] <s>"]
)
def test_every_text_can_be_tokenized(text: str) -> None:
    tokenizer = bpe(max_length=4096)
    ids = tokenizer(text)
    assert ids[0] == CLASS
    assert all(SPECIALS <= piece < tokenizer.vocab_size for piece in ids[1:]), "text reached a special token"
    back = tokenizer.tokenizer.decode([piece - SPECIALS for piece in ids[1:]])
    assert back.strip() == " ".join(unicodedata.normalize("NFKC", text).lower().split())


def test_case_width_and_spaces_are_normalised() -> None:
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
        "import json, sys; from modalities.text.tokenizers.bpe import train_bpe; "
        "print(json.dumps(train_bpe(json.loads(sys.argv[1]), vocab_size=400, max_length=16).config(), sort_keys=True))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, json.dumps(CORPUS)],
        env=os.environ | {"PYTHONHASHSEED": "1", "TOKENIZERS_PARALLELISM": "true"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout) == json.loads(json.dumps(bpe().config()))


def test_training_without_texts_is_an_error() -> None:
    with pytest.raises(UserError, match="no text to train a tokenizer on"):
        train_bpe([], vocab_size=300, max_length=8)


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_clip_tokens_equal_those_of_open_clip(clean: str) -> None:
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


def test_json_tokenizers_are_restored_from_config() -> None:
    whole = JsonTokenizer(bpe().config()["json"], 6, pad=3, clean="canonicalize", blank=70)
    again = restore_tokenizer(json.loads(json.dumps(whole.config())))
    for text in ("A red, red disc!", "one two three four five six seven"):
        assert again(text) == whole(text)
        assert len(again(text)) <= 6
        assert 70 not in again(text)
    assert again.pad == 3


@pytest.mark.parametrize("config", [{"kind": "sp"}, {"kind": "bpe", "json": {"a": 1}, "max_length": 4}, {}])
def test_invalid_tokenizers_are_errors(config: dict[str, object]) -> None:
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


CHEMICALS = [
    "The molecule is a (2R,3S)-2,3-dihydroxybutanoic acid.",
    "It derives from a 3-hydroxybutanoate(1-) and N-acetyl-D-glucosamine.",
    "It is a conjugate base of a 6-methoxy-1H-indole and a tetrahydroisoquinoline.",
    "It has a role as a metabolite; the hydrogens at positions 2 and 3 are replaced.",
] * 2


@pytest.fixture(scope="module")
def iupac() -> BpeTokenizer:
    return train_bpe(CHEMICALS, vocab_size=800, max_length=256, iupac=True)


def spelled(tokenizer: BpeTokenizer, text: str) -> list[str]:
    """The letters that each piece stands for; bytes of one letter stand for it together."""
    _, spans, spelled = tokenizer.pieces(text)
    return [spelled[span[0] : span[1]] for span in spans if span is not None]


def test_names_are_cut_into_morphemes(iupac: BpeTokenizer) -> None:
    pieces = spelled(iupac, "It derives from a (2R,3S)-2,3-dihydroxybutanoic acid")
    assert pieces == ["It", "derives", "from", "a", *"(2R,3S)-2,3-", "di", "hydroxy", "but", "an", "oic", "acid"]


@pytest.mark.parametrize(
    ("word", "morphemes"),
    [
        ("hydroxybutanoate", "hydroxy but an oate"),
        ("tetrahydroisoquinolines", "tetra hydro isoquinolin es"),
        ("icosatetraenoic", "icos a tetra en oic"),
        ("glucopyranosyl", "gluc o pyran osyl"),
        ("methylsulfanyl", "meth yl sulf an yl"),
        ("propanes", "prop ane s"),
        ("carbonitrile", "carb o nitrile"),
        ("furan", "furan"),  # too short
        ("methods", "methods"),
        ("another", "another"),
        ("molecule", "molecule"),
        ("derivative", "derivative"),
        ("configuration", "configuration"),
        ("declines", "declines"),
        ("mxxxethyl", "mxxxethyl"),  # three letters that nothing covers
        ("methylß", "methylß"),
    ],
)
def test_morphemes_of_a_word(word: str, morphemes: str) -> None:
    found = chemical_pre_tokenizer().pre_tokenize_str(word)
    assert [word[start:stop] for _, (start, stop) in found] == morphemes.split()


def test_a_word_is_cut_only_where_morphemes_cover_it() -> None:
    """The definition, from the list of morphemes: scanned from the left, longest first."""
    whole, final = ({m for m in MORPHEMES if not m.endswith("$")}, {m[:-1] for m in MORPHEMES if m.endswith("$")})

    def scanned(word: str) -> tuple[list[str], int]:
        pieces, covered, place = [""], 0, 0
        while place < len(word):
            here = [m for m in whole if word.startswith(m, place)]
            here += [m for m in final if word[place:] in (m, m + "s")]
            longest = max(here, key=len, default="")
            if longest:
                pieces += [longest, ""]
            else:
                pieces[-1] += word[place]
            covered, place = covered + len(longest), place + max(len(longest), 1)
        return [piece for piece in pieces if piece], covered

    rng, cut, splitter = random.Random(0), 0, chemical_pre_tokenizer()
    names = sorted(whole | final)
    for _ in range(3000):
        word = "".join(rng.choice((rng.choice(names), rng.choice("aobxs"))) for _ in range(rng.randint(1, 6)))
        found = [word[start:stop] for _, (start, stop) in splitter.pre_tokenize_str(word)]
        if len(found) > 1:
            pieces, covered = scanned(word)
            ending = re.fullmatch(r".*?([aeo]?s?)", pieces[-1])
            assert found == pieces
            assert (covered + len(ending[1] if ending and pieces[-1] not in whole | final else "")) / len(word) >= 0.7
            cut += 1
    assert cut > 500


def test_no_piece_joins_digits_marks_or_stereo_descriptors(iupac: BpeTokenizer) -> None:
    for text in ("(12R,13E)-N,N'-di[4-(2S)-x]", "alpha-D-Glc-(1->4)-beta-L-Fuc", "1H-indole-2,3'(4Z)-dione 10% [18F]"):
        for piece in spelled(iupac, text):
            assert len(piece) == 1 or piece.isalpha(), piece
    # However often they are seen together.
    often = train_bpe(["(2R,3S)-12"] * 50, vocab_size=400, max_length=64, iupac=True)
    assert len(often("(2R,3S)-12")) == 1 + len("(2R,3S)-12")


def test_isolated_capitals_keep_their_case(iupac: BpeTokenizer) -> None:
    for one, other in (
        ("(R)-x", "(r)-x"),
        ("N-acetyl", "n-acetyl"),
        ("D-x", "d-x"),
        ("2Z,4E", "2z,4e"),
        ("13C", "13c"),
    ):
        assert iupac(one) != iupac(other)
    for one, other in (
        ("A RED disc", "a red disc"),
        ("It is. A disc", "it is. a disc"),
        ("Methyl (2R)-Propanoate", "methyl (2R)-propanoate"),
        ("NaCl ÄÖ", "nacl äö"),
        ("  A\tRED \n ｄｉｓｃ ", "a red disc"),
    ):
        assert iupac(one) == iupac(other)


@pytest.mark.parametrize("text", ["日本語", "🦀 crab", "naïve café", "\x00\x07\x01r", "x" * 500, "[PAD] <s>", "Ω-3 İ"])
def test_every_chemical_name_can_be_tokenized(iupac: BpeTokenizer, text: str) -> None:
    assert all(SPECIALS <= piece < iupac.vocab_size for piece in iupac(text)[1:])
    back = iupac.tokenizer.decode([piece - SPECIALS for piece in iupac(text)[1:]])
    wanted = "".join(re.sub(r"[\s\x00-\x1f]", "", unicodedata.normalize("NFKC", text).lower()))
    assert back.lower() == wanted[:255]


def test_molecule_transform_is_restored_from_json(iupac: BpeTokenizer) -> None:
    again = restore_tokenizer(json.loads(json.dumps(iupac.config())))
    for text in (*CHEMICALS, "Ä (R)-2 hydroxyhexanoate 🦀"):
        assert again.pieces(text) == iupac.pieces(text)
    shuffled = CHEMICALS.copy()
    random.Random(0).shuffle(shuffled)
    assert train_bpe(shuffled, vocab_size=800, max_length=256, iupac=True).config() == iupac.config()


def test_pieces_have_their_spans() -> None:
    plain = bpe(max_length=64)
    found = plain.pieces("A  small ｄｉｓｃ 🦀!")
    assert found.ids == plain("A  small ｄｉｓｃ 🦀!")
    assert found.spans[0] is None
    words = [found.text[span[0] : span[1]].strip() for span in found.spans[1:4]]
    assert words == ["A", "small", "ｄｉｓｃ"]
    short = bpe(max_length=3).pieces("a small red disc")
    assert len(short.ids) == len(short.spans) == 3


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_clip_pieces_are_its_tokens(clean: str) -> None:
    pytest.importorskip("open_clip")
    tokenizer = ClipTokenizer(16, clean)
    for text in ("a Photo of a cat's &amp; <br> dog!", "naïve 日本 🦀 x", "unbelievably long wordings " * 9, ""):
        ids, spans, cleaned = tokenizer.pieces(text)
        assert ids == tokenizer(text)
        assert len(ids) == len(spans)
        assert spans[0] is spans[-1] is None
        ends = [0]
        for span in spans[1:-1]:
            assert not cleaned[ends[-1] : span[0]].strip()
            ends.append(span[1])
        whole = "".join(tokenizer.tokenizer.decode(ids[1:-1]).split())
        assert "".join(cleaned[: ends[-1]].split()).startswith(whole.rstrip("�"))


@pytest.mark.real
def test_real_descriptions(real_data: Path) -> None:
    """ChEBI-20's validation texts: morphemes are shared, so fewer distinct pieces spell them, in few more tokens."""
    lines = (real_data / "chebi20" / "validation.txt").read_text(encoding="utf-8").splitlines()[1:]
    texts = [line.split("\t")[2] for line in lines]
    made = [train_bpe(texts, vocab_size=8192, max_length=512, iupac=iupac) for iupac in (False, True)]
    ids = [[tokenizer(text) for text in texts] for tokenizer in made]
    plain, chemical = (len({piece for row in rows for piece in row}) for rows in ids)
    assert chemical < 0.75 * plain
    lengths = [sorted(map(len, rows))[len(texts) // 2] for rows in ids]
    assert lengths[1] < 1.2 * lengths[0]


@pytest.mark.parametrize("identifier", [65536, 257])
def test_trained_vocabulary_with_a_damaged_id_is_refused(identifier: int) -> None:
    config = train_bpe(["a red disc", "a red square"], vocab_size=270, max_length=8).config()
    config["json"]["model"]["vocab"]["Ġ"] = identifier
    with pytest.raises(UserError, match="expected a vocabulary with the ids 0 to"):
        restore_tokenizer(config)


def test_vocabulary_of_another_program_may_leave_ids_out() -> None:
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 7, "?": 2}, "unk_token": "?"}
    tokenizer = JsonTokenizer({"version": "1.0", "model": model, "added_tokens": []}, 8)
    assert tokenizer("b") == [7]
    assert tokenizer.vocab_size == 8
