"""Gradient norms: the norm of each loss term's gradient at the embeddings."""

import torch
from torch import Tensor

from mmalign.types import Embedding


class GradientNorms:
    """Norm of each loss term's gradient at the embeddings, recorded in the backward pass.

    Example:
        >>> gradient_norms, embedding = GradientNorms(), Embedding(torch.eye(2, requires_grad=True))
        >>> (3 * gradient_norms.watch("x_y", embedding).vector).sum().backward()
        >>> gradient_norms.norms()
        {'x_y': tensor(6.)}
    """

    def __init__(self) -> None:
        self._squares: dict[str, list[Tensor]] = {}

    def watch(self, label: str, embedding: Embedding) -> Embedding:
        """The same embedding; the gradient through it is attributed to the term `label`."""

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
        """Norm by term, over all fields of both towers' rows of this process."""
        return {label: torch.stack(squares).sum().sqrt() for label, squares in self._squares.items()}
