"""Trajectories of a clip: made without weights, or taken from object masks; plain functions on NumPy arrays."""

from modalities.video.trajectories.flow import flow_linked
from modalities.video.trajectories.grid import grid_tubes
from modalities.video.trajectories.make import METHODS, make
from modalities.video.trajectories.maps import trajectory_map
from modalities.video.trajectories.masks import from_masks
from modalities.video.trajectories.slic import supervoxels
from modalities.video.trajectories.stitching import stitch

__all__ = [
    "METHODS", "flow_linked", "from_masks", "grid_tubes", "make", "stitch", "supervoxels", "trajectory_map",
]  # fmt: skip
