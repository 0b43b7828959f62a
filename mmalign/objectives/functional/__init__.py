"""Equations alone, in the papers' notation: no state, no communication, float32 inside under autocast."""

from mmalign.objectives.functional.contrastive import clip_loss, siglip_loss

__all__ = ["clip_loss", "siglip_loss"]
