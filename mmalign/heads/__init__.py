"""Heads: from an encoder's `Features` to fields of an `Embedding`. Only those that some objective needs are built."""

from collections.abc import Iterable

from torch import nn

from mmalign.errors import UserError
from mmalign.heads.projection import ProjectionHead
from mmalign.modality import Encoder
from mmalign.types import Embedding, Features

__all__ = ["HeadSet", "ProjectionHead"]


class HeadSet(nn.Module):
    """The heads of one tower.

    Args:
        encoder: Whose features come in.
        dim: Size of the shared space.
        needs: Fields of `Embedding` that some objective reads.
        kind: How vectors are projected: linear, mlp, or identity (the encoder's width must then be `dim`).
    """

    def __init__(self, encoder: Encoder, dim: int, needs: Iterable[str], kind: str = "linear") -> None:
        super().__init__()
        unknown = set(needs) - {"vector"}
        if unknown:
            raise UserError(f"no head makes {sorted(unknown)}; objectives may need: vector")
        self.vector = ProjectionHead(encoder.width, dim, kind)

    def forward(self, features: Features, modality: str = "") -> Embedding:
        """Make the embedding's fields."""
        return Embedding(self.vector(features.vector), modality=modality)
