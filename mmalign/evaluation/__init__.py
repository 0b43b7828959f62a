"""Evaluation: what the shared space is good for, measured by the score that was trained."""
