"""Comparison of models on the same queries: paired differences with intervals."""
