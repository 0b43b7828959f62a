"""Images: reading, transforms, encoders."""

from modalities.image.modality import ImageModality

MODALITY = ImageModality()
__all__ = ["MODALITY"]
