"""The similarity as a function of the tokens of one sample: its gradient, and its value without some of them."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mmalign.embedding.token_pairs import embed_tokens
from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import Bools, Floats
from mmalign.model import Aligner
from mmalign.types import Embedding, Features, Tokens


def gradient_times_input(model: Aligner, tower: str, sample: Any, other: Embedding, level: str) -> Floats:
    r"""\(|\sum_d t_d \, \partial s / \partial t_d|\) of each token t that the encoder returns, s = similarity.

    Source: Shrikumar et al., Not Just a Black Box, 2016.

    Args:
        model: The model, in eval mode.
        tower: The sample's tower.
        sample: As `Modality.read` returns it.
        other: One row of another tower.
        level: tokens or parts.

    Returns:
        `(entries,)`; 0 where the similarity does not depend on the tokens.
    """
    leaves: list[Tensor] = []

    def watch(tokens: Tokens) -> Tokens:
        leaves.append(tokens.values.detach().clone().requires_grad_())
        return dataclasses.replace(tokens, values=leaves[0])

    with torch.enable_grad(), changed(model, tower, level, watch):
        score = model.similarity(embed_tokens(model, tower, sample), other)[0, 0]
        gradient = torch.autograd.grad(score, leaves[0], allow_unused=True)[0] if score.requires_grad else None
    if gradient is None:
        gradient = torch.zeros_like(leaves[0])
    product: Floats = (gradient * leaves[0]).detach().sum(dim=-1).abs()[0].double().cpu().numpy()
    return product


def score_without(model: Aligner, tower: str, sample: Any, other: Embedding, level: str, removed: Bools) -> float:
    """The similarity with some tokens masked after the encoder.

    Args:
        model: The model, in eval mode.
        tower: The sample's tower.
        sample: As `Modality.read` returns it.
        other: One row of another tower.
        level: tokens or parts.
        removed: `(entries,)`, True = masked.
    """

    def mask(tokens: Tokens) -> Tokens:
        kept = ~torch.from_numpy(removed).to(tokens.mask.device)
        return dataclasses.replace(tokens, mask=tokens.mask & kept)

    with changed(model, tower, level, mask):
        return float(model.similarity(embed_tokens(model, tower, sample), other)[0, 0])


@contextmanager
def changed(model: Aligner, tower: str, level: str, change: Callable[[Tokens], Tokens]) -> Iterator[None]:
    """Within this context, the encoder of a tower returns changed tokens (or parts).

    Raises:
        UserError: the encoder returns no such tokens.
    """

    def hook(_module: object, _inputs: object, features: Features) -> Features:
        tokens = features.parts if level == "parts" else features.tokens
        if tokens is None:
            raise UserError(f"{tower}: expected an encoder that returns {level}")
        if level == "parts":
            return dataclasses.replace(features, parts=change(tokens))
        return dataclasses.replace(features, tokens=change(tokens))

    handle = model.encoders[tower].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
