"""Texts: reading, tokenizers, encoders."""

from modalities.text.modality import TextModality

MODALITY = TextModality()
__all__ = ["MODALITY"]
