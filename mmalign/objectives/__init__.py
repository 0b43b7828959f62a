"""Objectives: how two towers of a pair are aligned, and the score that evaluation uses."""
