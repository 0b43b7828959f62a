"""Point clouds and meshes: geometry, reading, encoders."""
