"""Hand-crafted features of images."""
