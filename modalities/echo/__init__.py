"""Echocardiogram clips: reading, transforms, encoders."""

from modalities.echo.modality import EchoModality

MODALITY = EchoModality()
__all__ = ["MODALITY"]
