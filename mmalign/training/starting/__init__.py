"""Weights before the first step: warm start, whitening, CCA."""
