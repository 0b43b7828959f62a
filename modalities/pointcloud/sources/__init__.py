"""Sources of point clouds."""
