"""Video clips and object trajectories: reading, encoders."""

from modalities.video.modality import VideoModality

MODALITY = VideoModality()
__all__ = ["MODALITY"]
