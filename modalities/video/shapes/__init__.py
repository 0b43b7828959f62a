"""Simulated clips of moving shapes with true masks, for trials without data."""
