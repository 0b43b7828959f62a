"""How strongly each term of a loss gradient_norms at the embeddings."""

import torch
from torch import Tensor

from mmalign.types import Embedding


class GradientNorms:
    """How strongly each term pulls at the embeddings: the norm of its part of their gradient, noted in backward.

    Example:
        >>> gradient_norms, side = GradientNorms(), Embedding(torch.eye(2, requires_grad=True))
        >>> (3 * gradient_norms.watch("x_y", side).vector).sum().backward()
        >>> gradient_norms.norms()
        {'x_y': tensor(6.)}
    """

    def __init__(self) -> None:
        self._squares: dict[str, list[Tensor]] = {}

    def watch(self, label: str, embedding: Embedding) -> Embedding:
        """The same embedding; what flows back through it counts for this term."""

        def note(gradient: Tensor) -> None:
            self._squares.setdefault(label, []).append(gradient.detach().float().square().sum())

        def alias(value: Tensor) -> Tensor:
            if not value.requires_grad:
                return value
            same = value.view_as(value)
            same.register_hook(note)  # type: ignore[no-untyped-call]
            return same

        return embedding.map(alias)

    def norms(self) -> dict[str, Tensor]:
        """By term, over all fields of both sides of this process's rows."""
        return {label: torch.stack(squares).sum().sqrt() for label, squares in self._squares.items()}
