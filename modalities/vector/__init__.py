"""Precomputed embeddings: a frozen tower is a column; a bag is several vectors a sample."""

from modalities.vector.bag import BagModality
from modalities.vector.modality import VectorModality

MODALITY = VectorModality()
BAG = BagModality()
__all__ = ["BAG", "MODALITY"]
