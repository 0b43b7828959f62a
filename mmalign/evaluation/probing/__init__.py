"""Linear models on frozen features."""
