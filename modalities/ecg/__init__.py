"""Electrocardiograms: reading, checks, preprocessing, encoders."""

from modalities.ecg.modality import EcgModality

MODALITY = EcgModality()
__all__ = ["MODALITY"]
