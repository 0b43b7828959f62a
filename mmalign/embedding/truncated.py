"""Truncated embeddings: a model that returns the first dimensions of its vectors (Matryoshka)."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mmalign.errors import UserError
from mmalign.heads import HeadSet
from mmalign.model import Aligner

_LOG = logging.getLogger("mmalign")


def trained_sizes(model: Aligner, towers: Collection[str]) -> list[int]:
    """Embedding sizes for which the terms of some towers were trained, largest first: the full one, and their `dims`.

    Args:
        model: The model.
        towers: Both towers of a pair, or one tower: then of all its pairs.
    """
    pairs = [pair for pair in model.pairs if set(towers) <= {pair.a, pair.b}]
    return sorted({model.dim, *(size for pair in pairs for size in pair.dims)}, reverse=True)


@contextmanager
def truncated_vectors(model: Aligner, size: int | None, towers: Collection[str]) -> Iterator[None]:
    """Within this context, the model's vectors are truncated to their first `size` numbers and renormalised.

    Logs a warning if the model was not trained with this size.

    Args:
        model: The model.
        size: From 1 to the model's dim; None or the model's dim = nothing changes.
        towers: The towers that are embedded.

    Raises:
        UserError: the size is none of the vectors', or the score of both towers reads more than vectors.
    """
    if size is None:
        yield
        return
    if not 1 <= size <= model.dim:
        raise UserError(f"dims: expected from 1 to {model.dim}, the size of this model's vectors, got {size}")
    if len(towers) == 2 and size < model.dim and not model.scores_vectors_only(*towers):
        raise UserError(f"dims: the score of {' and '.join(towers)} reads more than vectors, so it cannot be truncated")
    trained = trained_sizes(model, towers)
    if size not in trained:
        known = ", ".join(map(str, trained))
        _LOG.warning(f"vectors are truncated to {size} numbers; this model was trained with {known}")
    heads = [head for head in model.heads.values() if isinstance(head, HeadSet)]
    for head in heads:
        head.size = size
    try:
        yield
    finally:
        for head in heads:
            head.size = None


def truncation_note(model: Aligner, size: int, towers: Collection[str]) -> str:
    """What truncated vectors are, for the provenance of a result."""
    trained = trained_sizes(model, towers)
    known = "a trained size" if size in trained else f"trained: {', '.join(map(str, trained))}"
    return f"{size} of {model.dim} numbers of each vector ({known})"
