"""Reading of files: kinds of source, containers, and silenced libraries."""
