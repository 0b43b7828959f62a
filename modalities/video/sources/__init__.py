"""Simulated and published data sets of clips and sentences."""
