"""Video clips and object trajectories: reading, encoders."""
