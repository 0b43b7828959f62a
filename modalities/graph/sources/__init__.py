"""Sources of graphs."""
