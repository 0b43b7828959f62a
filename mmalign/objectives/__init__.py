"""Objectives: how two sides of a pair are pulled together, and the score that evaluation uses."""
