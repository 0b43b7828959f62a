"""Geometry of batched point sets in plain PyTorch: sampling, neighbours, Chamfer distance; usable alone."""

from modalities.pointcloud.geometry.ball import ball_query
from modalities.pointcloud.geometry.chamfer import chamfer_distance
from modalities.pointcloud.geometry.farthest import farthest_point_sampling
from modalities.pointcloud.geometry.neighbours import nearest_neighbours
from modalities.pointcloud.geometry.selection import Selection, take_points

__all__ = [
    "Selection",
    "ball_query",
    "chamfer_distance",
    "farthest_point_sampling",
    "nearest_neighbours",
    "take_points",
]
