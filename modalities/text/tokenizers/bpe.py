"""Tokenizers with a JSON state."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from tokenizers import Encoding, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from mmalign.errors import UserError
from modalities.text.tokenizers.chemical_names import chemical_normalizer, chemical_pre_tokenizer

PAD, CLASS, SPECIALS = 0, 1, 2
"""Ids of padding and class token, and the number of ids reserved for special tokens, of trained tokenizers."""


class Pieces(NamedTuple):
    """A tokenized text with the span of each piece.

    Args:
        ids: Token ids, special tokens included.
        spans: Character span of each piece in `text`; None for special tokens.
        text: The text of the spans: the sample, or the sample after cleaning.
    """

    ids: list[int]
    spans: list[tuple[int, int] | None]
    text: str


class Tokenizer(Protocol):
    """Protocol of a tokenizer."""

    pad: int
    vocab_size: int

    def __call__(self, text: str) -> list[int]:
        """Token ids of one text, special tokens included, truncated to the tokenizer's length."""

    def truncates(self, text: str) -> bool:
        """Whether the text has more tokens than the tokenizer's length."""

    def pieces(self, text: str) -> Pieces:
        """The same ids, with the span of each piece."""

    def config(self) -> dict[str, Any]:
        """Its state as JSON values, for `restore_tokenizer(config)`."""


class BpeTokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 2016), without unknown tokens.

    Texts are normalised (NFKC, lower case, single spaces); with `train_bpe(iupac=True)` some capitals are kept, see
    `chemical_normalizer`. Every text starts with the class token. Special tokens have no spelling, so no text can
    contain one.

    Args:
        tokenizer: The trained tokenizer.
        max_length: Maximum number of tokens, class token included.

    Example:
        >>> from modalities.text.tokenizers.bpe import train_bpe
        >>> bpe = train_bpe(["a red disc", "a red square"], vocab_size=300, max_length=8)
        >>> bpe("A  RED disc") == bpe("a red disc")
        True
    """

    pad = PAD

    def __init__(self, tokenizer: FastTokenizer, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        ids = sorted(tokenizer.get_vocab().values())
        if ids != list(range(len(ids))):
            raise UserError(f"text tokenizer: expected a vocabulary with the ids 0 to {len(ids) - 1}, each once")
        self.vocab_size = len(ids) + SPECIALS

    def __call__(self, text: str) -> list[int]:
        """Ids of the class token and the pieces."""
        pieces = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [CLASS, *(piece + SPECIALS for piece in pieces[: self.max_length - 1])]

    def truncates(self, text: str) -> bool:
        """Whether the text has more pieces than fit beside the class token."""
        if text.isascii() and len(text) < self.max_length - 2:  # a piece is at least one byte
            return False
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids) > self.max_length - 1

    def pieces(self, text: str) -> Pieces:
        """The same ids, with spans."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        most = self.max_length - 1
        ids = [CLASS, *(piece + SPECIALS for piece in encoding.ids[:most])]
        return Pieces(ids, [None, *encoding.offsets[:most]], text)

    def config(self) -> dict[str, Any]:
        """The trained tokenizer, and the maximum length."""
        return {"kind": "bpe", "max_length": self.max_length, "json": json.loads(self.tokenizer.to_str())}


class JsonTokenizer:
    """Any tokenizer of the Hugging Face `tokenizers` format, with its own special tokens.

    Args:
        description: The content of a `tokenizer.json`.
        max_length: Maximum number of tokens, special tokens included.
        pad: Id of padding.
        clean: One of open_clip's cleaning steps, applied first: whitespace, lower or canonicalize; "" = none.
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
        self.vocab_size = max(self.tokenizer.get_vocab().values(), default=-1) + 1  # ids may leave some out

    def __call__(self, text: str) -> list[int]:
        """Ids of the pieces, with the description's special tokens."""
        return self._ids(self.tokenizer.encode(self._cleaned(text)))

    def truncates(self, text: str) -> bool:
        """Whether pieces are left over."""
        return bool(self.tokenizer.encode(self._cleaned(text)).overflowing)

    def pieces(self, text: str) -> Pieces:
        """The same ids, with spans."""
        cleaned = self._cleaned(text)
        encoding = self.tokenizer.encode(cleaned)
        marks = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
        return Pieces(self._ids(encoding), [None if special else span for span, special in marks], cleaned)

    def _cleaned(self, text: str) -> str:
        return _clean_step(self.clean)(text) if self.clean else text

    def _ids(self, encoding: Encoding) -> list[int]:
        return [0 if piece == self.blank else piece for piece in encoding.ids]

    def config(self) -> dict[str, Any]:
        """The description and the arguments."""
        return {
            "kind": "json",
            "max_length": self.max_length,
            "pad": self.pad,
            "clean": self.clean,
            "blank": self.blank,
            "json": json.loads(self.tokenizer.to_str()),
        }


class ClipTokenizer:
    """The tokenizer of CLIP, included in open_clip.

    Args:
        max_length: Maximum number of tokens, start and end included.
        clean: open_clip's cleaning step: lower, whitespace or canonicalize.
    """

    pad = 0

    def __init__(self, max_length: int, clean: str = "lower") -> None:
        from modalities.common.encoders.open_clip import open_clip_package

        self.tokenizer = open_clip_package("text").SimpleTokenizer(clean=clean)
        self.max_length, self.clean = max_length, clean
        self.vocab_size: int = self.tokenizer.vocab_size

    def __call__(self, text: str) -> list[int]:
        """Start, pieces, end."""
        pieces = self.tokenizer.encode(text)[: self.max_length - 2]
        return [self.tokenizer.sot_token_id, *pieces, self.tokenizer.eot_token_id]

    def truncates(self, text: str) -> bool:
        """Whether the text has more pieces than fit between start and end."""
        if text.isascii() and len(text) < self.max_length - 3:  # a piece is at least one byte
            return False
        return len(self.tokenizer.encode(text)) > self.max_length - 2

    def pieces(self, text: str) -> Pieces:
        """The same ids, with spans; the library returns none, so its steps are repeated here."""
        inner = self.tokenizer
        cleaned = inner.clean_fn(text)
        ids: list[int] = []
        spans: list[tuple[int, int] | None] = []
        for word in inner.pat.finditer(cleaned):
            spelled = word.group().encode()
            done, stop = 0, word.start()
            for piece in inner.bpe("".join(inner.byte_encoder[byte] for byte in spelled)).split(" "):
                done += len(piece.removesuffix("</w>"))  # one letter per byte
                start, stop = stop, word.start() + len(spelled[:done].decode(errors="ignore"))
                ids.append(inner.encoder[piece])
                spans.append((start, stop))
        most = self.max_length - 2
        return Pieces([inner.sot_token_id, *ids[:most], inner.eot_token_id], [None, *spans[:most], None], cleaned)

    def config(self) -> dict[str, Any]:
        """The arguments."""
        return {"kind": "clip", "max_length": self.max_length, "clean": self.clean}


def train_bpe(texts: Iterable[str], *, vocab_size: int, max_length: int, iupac: bool = False) -> BpeTokenizer:
    """Train byte-pair encoding on a corpus; the result does not depend on the order of the texts.

    Args:
        texts: The corpus.
        vocab_size: Maximum number of pieces, including the 256 bytes and two special tokens.
        max_length: Maximum number of tokens.
        iupac: Split chemical names into morphemes first, see `chemical_pre_tokenizer`; no piece crosses a split.

    Raises:
        UserError: there is no text.
    """
    # Otherwise the library warns about every worker process forked after parallel training.
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
    """Restore a tokenizer from its saved `config`."""
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
    from modalities.common.encoders.open_clip import open_clip_package

    step: Callable[[str], str] = open_clip_package("text").tokenizer.get_clean_fn(name)
    return step
