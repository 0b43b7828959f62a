"""Precomputed embeddings: one vector per sample, or a bag of several vectors per sample."""

from modalities.vector.bag import BagModality
from modalities.vector.modality import VectorModality

MODALITY = VectorModality()
BAG = BagModality()
__all__ = ["BAG", "MODALITY"]
