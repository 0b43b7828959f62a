"""The level of an embedding that a set objective compares: tokens or parts."""

from typing import Literal

from mmalign.errors import UserError
from mmalign.types import Embedding, Tokens

Level = Literal["tokens", "parts"]


def level_of(embedding: Embedding, level: Level) -> Tokens:
    """The tokens or the parts of an embedding.

    Raises:
        UserError: it has none.
    """
    tokens = embedding.tokens if level == "tokens" else embedding.parts
    if tokens is None:
        raise UserError(f"embeddings of {embedding.tower or 'this tower'} have no {level}: no head computes them")
    return tokens


def known(level: str) -> Level:
    """The level, checked.

    Raises:
        UserError: it is neither tokens nor parts.
    """
    if level == "tokens":
        return "tokens"
    if level == "parts":
        return "parts"
    raise UserError(f"level must be tokens or parts, got {level!r}")
