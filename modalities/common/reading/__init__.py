"""Reading of files: kinds of source, containers, and libraries that are kept quiet."""
