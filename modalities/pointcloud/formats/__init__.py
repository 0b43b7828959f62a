"""Point cloud and mesh file formats, read from bytes alone."""
