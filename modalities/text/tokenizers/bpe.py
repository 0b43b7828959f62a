"""Text -> integers, by tokenizers whose whole state is JSON."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from tokenizers import Encoding, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from mmalign.errors import UserError
from modalities.text.tokenizers.chemical_names import chemical_normalizer, chemical_pre_tokenizer

PAD, CLASS, SPECIALS = 0, 1, 2
"""Of a tokenizer trained here: the padding, the class token, and how many numbers are kept for such."""


class Pieces(NamedTuple):
    """A tokenized text with the place of each piece.

    Args:
        ids: What the tokenizer gives, special tokens included.
        spans: Where each piece begins and ends in `text`, in characters; None for special tokens.
        text: The text that the spans count in: the sample, or what a cleaning step left of it.
    """

    ids: list[int]
    spans: list[tuple[int, int] | None]
    text: str


class Tokenizer(Protocol):
    """What a transform needs."""

    pad: int
    vocab_size: int

    def __call__(self, text: str) -> list[int]:
        """The integers of one text, special tokens included, cut to the tokenizer's length."""

    def pieces(self, text: str) -> Pieces:
        """The same integers, and where in the text each piece stands."""

    def config(self) -> dict[str, Any]:
        """What restores it, as JSON values: `restore_tokenizer(config)`."""


class BpeTokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) over bytes: nothing is ever unknown.

    Case and Unicode form are levelled (NFKC, lower case), runs of white space become one space; what `train_bpe` makes
    with `iupac` keeps some capitals, see `chemical_normalizer`. Every text starts with the class token. Special tokens
    have no spelling, so no text can hold one.

    Args:
        tokenizer: The trained part.
        max_length: Longest result, class token included.

    Example:
        >>> from modalities.text.tokenizers.bpe import train_bpe
        >>> bpe = train_bpe(["a red disc", "a red square"], vocab_size=300, max_length=8)
        >>> bpe("A  RED disc") == bpe("a red disc")
        True
    """

    pad = PAD

    def __init__(self, tokenizer: FastTokenizer, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.vocab_size = tokenizer.get_vocab_size() + SPECIALS

    def __call__(self, text: str) -> list[int]:
        """Class token, then pieces."""
        pieces = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [CLASS, *(piece + SPECIALS for piece in pieces[: self.max_length - 1])]

    def pieces(self, text: str) -> Pieces:
        """The same, with places."""
        found = self.tokenizer.encode(text, add_special_tokens=False)
        most = self.max_length - 1
        return Pieces([CLASS, *(piece + SPECIALS for piece in found.ids[:most])], [None, *found.offsets[:most]], text)

    def config(self) -> dict[str, Any]:
        """The trained part, and the length."""
        return {"kind": "bpe", "max_length": self.max_length, "json": json.loads(self.tokenizer.to_str())}


class JsonTokenizer:
    """Any tokenizer of the Hugging Face `tokenizers` format, with its own special tokens.

    Args:
        description: The content of a `tokenizer.json`.
        max_length: Longest result, special tokens included.
        pad: The integer that padding has.
        clean: One of open_clip's cleaning steps done before: whitespace, lower or canonicalize; "" = none.
        blank: A token that open_clip replaces by 0 for some models; None = nothing.
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        max_length: int,
        *,
        pad: int = 0,
        clean: str = "",
        blank: int | None = None,
    ) -> None:
        self.tokenizer = _parse(description)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)
        self.max_length, self.pad, self.clean, self.blank = max_length, pad, clean, blank
        self.vocab_size = self.tokenizer.get_vocab_size()

    def __call__(self, text: str) -> list[int]:
        """Pieces between the special tokens that the description asks for."""
        return self._ids(self.tokenizer.encode(self._cleaned(text)))

    def pieces(self, text: str) -> Pieces:
        """The same, with places."""
        cleaned = self._cleaned(text)
        found = self.tokenizer.encode(cleaned)
        marks = zip(found.offsets, found.special_tokens_mask, strict=True)
        return Pieces(self._ids(found), [None if special else span for span, special in marks], cleaned)

    def _cleaned(self, text: str) -> str:
        return _clean_step(self.clean)(text) if self.clean else text

    def _ids(self, found: Encoding) -> list[int]:
        return [0 if piece == self.blank else piece for piece in found.ids]

    def config(self) -> dict[str, Any]:
        """The description, and what was asked for."""
        return {
            "kind": "json",
            "max_length": self.max_length,
            "pad": self.pad,
            "clean": self.clean,
            "blank": self.blank,
            "json": json.loads(self.tokenizer.to_str()),
        }


class ClipTokenizer:
    """The tokenizer of CLIP, which open_clip carries inside.

    Args:
        max_length: Longest result, start and end included.
        clean: open_clip's cleaning step: lower, whitespace or canonicalize.
    """

    pad = 0

    def __init__(self, max_length: int, clean: str = "lower") -> None:
        from modalities.common.open_clip import open_clip_package

        self.tokenizer = open_clip_package("text").SimpleTokenizer(clean=clean)
        self.max_length, self.clean = max_length, clean
        self.vocab_size: int = self.tokenizer.vocab_size

    def __call__(self, text: str) -> list[int]:
        """Start, pieces, end."""
        pieces = self.tokenizer.encode(text)[: self.max_length - 2]
        return [self.tokenizer.sot_token_id, *pieces, self.tokenizer.eot_token_id]

    def pieces(self, text: str) -> Pieces:
        """The same, with places; the library itself keeps none, so its steps are gone through one by one."""
        inner = self.tokenizer
        cleaned = inner.clean_fn(text)
        ids: list[int] = []
        spans: list[tuple[int, int] | None] = []
        for word in inner.pat.finditer(cleaned):
            spelled = word.group().encode()
            done, stop = 0, word.start()
            for piece in inner.bpe("".join(inner.byte_encoder[byte] for byte in spelled)).split(" "):
                done += len(piece.removesuffix("</w>"))  # one letter a byte
                start, stop = stop, word.start() + len(spelled[:done].decode(errors="ignore"))
                ids.append(inner.encoder[piece])
                spans.append((start, stop))
        most = self.max_length - 2
        return Pieces([inner.sot_token_id, *ids[:most], inner.eot_token_id], [None, *spans[:most], None], cleaned)

    def config(self) -> dict[str, Any]:
        """The arguments."""
        return {"kind": "clip", "max_length": self.max_length, "clean": self.clean}


def train_bpe(texts: Iterable[str], *, vocab_size: int, max_length: int, iupac: bool = False) -> BpeTokenizer:
    """Learn pieces from a corpus; equal texts give an equal tokenizer, in any order of the texts.

    Args:
        texts: The corpus.
        vocab_size: At most so many pieces, among them the 256 bytes and two special tokens.
        max_length: Longest result.
        iupac: Cut the names of chemicals into morphemes first, see `chemical_pre_tokenizer`; no piece crosses a cut.

    Raises:
        UserError: there is no text.
    """
    # A worker process that is forked after parallel training would otherwise be warned about on every start.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = FastTokenizer(models.BPE())
    if iupac:
        tokenizer.normalizer, tokenizer.pre_tokenizer = chemical_normalizer(), chemical_pre_tokenizer()
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - SPECIALS,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    count = 0

    def counted() -> Iterable[str]:
        nonlocal count
        for text in texts:
            count += 1
            yield text

    tokenizer.train_from_iterator(counted(), trainer)
    if not count:
        raise UserError("no text to train a tokenizer on: expected at least one training sample")
    return BpeTokenizer(tokenizer, max_length)


def restore_tokenizer(config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of which `config` was saved."""
    kind = config.get("kind")
    if kind == "bpe":
        return BpeTokenizer(_parse(config["json"]), config["max_length"])
    if kind == "json":
        return JsonTokenizer(
            config["json"], config["max_length"], pad=config["pad"], clean=config["clean"], blank=config["blank"]
        )
    if kind == "clip":
        return ClipTokenizer(config["max_length"], config["clean"])
    raise UserError(f"no tokenizer of kind {kind!r} (known: bpe, json, clip)")


def _parse(description: Mapping[str, Any]) -> FastTokenizer:
    try:
        return FastTokenizer.from_str(json.dumps(description))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"this is no tokenizer of the `tokenizers` format: {error}") from error


def _clean_step(name: str) -> Callable[[str], str]:
    from modalities.common.open_clip import open_clip_package

    step: Callable[[str], str] = open_clip_package("text").tokenizer.get_clean_fn(name)
    return step
