"""Which grain of an embedding an objective of sets compares: tokens or parts."""

from typing import Literal

from mmalign.errors import UserError
from mmalign.types import Embedding, Tokens

Grain = Literal["tokens", "parts"]


def grain_of(embedding: Embedding, grain: Grain) -> Tokens:
    """The tokens or the parts of an embedding.

    Raises:
        UserError: it has none.
    """
    found = embedding.tokens if grain == "tokens" else embedding.parts
    if found is None:
        raise UserError(f"embeddings of {embedding.modality or 'this tower'} have no {grain}: no head made them")
    return found


def known(grain: str) -> Grain:
    """The grain by its name.

    Raises:
        UserError: it is neither tokens nor parts.
    """
    if grain == "tokens":
        return "tokens"
    if grain == "parts":
        return "parts"
    raise UserError(f"grain must be tokens or parts, got {grain!r}")
