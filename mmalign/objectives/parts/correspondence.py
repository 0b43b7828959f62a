"""Token correspondence of one pair of samples: the value that objectives and models return for it."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.token_correspondence import alike
from mmalign.objectives.parts.levels import Level
from mmalign.types import Embedding, Tokens


class Correspondence(NamedTuple):
    """Token correspondence of two samples, as one term of a model computes it.

    Args:
        weights: `(tokens_a, tokens_b)`, non-negative, 0 at padding; larger = stronger correspondence.
        level_a: Level of the rows: tokens or parts.
        level_b: Level of the columns.
        term: Label of the term, for instance `molecule_text_transport`.

    Example:
        >>> import torch
        >>> weights = Correspondence(torch.ones(2, 3), "tokens", "parts", "molecule_text_transport")
        >>> weights.swapped().weights.shape, weights.swapped().level_a
        (torch.Size([3, 2]), 'parts')
    """

    weights: Tensor
    level_a: Level
    level_b: Level
    term: str

    def swapped(self) -> "Correspondence":
        """The same correspondence with towers a and b exchanged."""
        return Correspondence(self.weights.T, self.level_b, self.level_a, self.term)


@dataclass(frozen=True)
class Coded(Embedding):
    """An embedding with the contribution of each token to its codes; `explain` makes them.

    Args:
        token_codes: Contributions, values `(batch, tokens, codes)`; they sum to `codes` over tokens.
    """

    token_codes: Tokens | None = None


def to_original_tokens(weights: Tensor, a: Tokens | None, b: Tokens | None) -> Tensor:
    """The correspondence of reduced tokens, distributed over the original tokens; its sum stays.

        M = O_a^T W O_b,    O = the origin of the reduced tokens

    Args:
        weights: `(tokens_a, tokens_b)`.
        a: The tokens of one sample that the objective compared; None, or without an origin: not reduced.
        b: Those of the other.

    Example:
        >>> import torch
        >>> reduced = Tokens(torch.ones(1, 1, 4), torch.ones(1, 1).bool(), origin=torch.tensor([[[0.75, 0.25]]]))
        >>> to_original_tokens(torch.ones(1, 1), reduced, None)
        tensor([[0.7500],
                [0.2500]])
    """
    if a is not None and a.origin is not None:
        weights = a.origin[0].mT.to(weights.dtype) @ weights
    if b is not None and b.origin is not None:
        weights = weights @ b.origin[0].to(weights.dtype)
    return weights


def compared_tokens(embedding: Embedding, needs: frozenset[str]) -> Tokens | None:
    """The tokens that an objective with these needs compares, of which `correspondence` has a row each."""
    if "codes" in needs:
        return embedding.token_codes if isinstance(embedding, Coded) else None
    return embedding.parts if "parts" in needs else embedding.tokens


def one_pair(a: Tokens, b: Tokens) -> tuple[Tensor, Tensor]:
    """Dot products of the tokens of one sample with those of another.

    Args:
        a: One sample, values `(1, tokens_a, dim)`.
        b: One sample, values `(1, tokens_b, dim)`.

    Returns:
        Dot products `(tokens_a, tokens_b)`, and a mask of the same shape, True where both tokens are real.

    Raises:
        UserError: `a` or `b` is not exactly one sample.
    """
    if len(a.mask) != 1 or len(b.mask) != 1:
        raise UserError(
            f"expected one sample of each tower, got {len(a.mask)} and {len(b.mask)}; take a row with [i : i + 1]"
        )
    return alike(a.values[0], a.mask[0], b.values[0], b.mask[0])
