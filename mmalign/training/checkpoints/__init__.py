"""Checkpoints of a run: files, resuming, the best epoch, interruption."""
