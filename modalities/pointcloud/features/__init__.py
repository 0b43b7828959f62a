"""Hand-crafted features of point clouds."""
