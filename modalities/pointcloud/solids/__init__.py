"""Procedural solids with a known name, for trials without data."""
