"""Precomputed embeddings: a frozen tower is a column."""

from modalities.vector.modality import VectorModality

MODALITY = VectorModality()
__all__ = ["MODALITY"]
