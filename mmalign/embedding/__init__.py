"""Embedding of splits, padded and jagged tokens, blocks of scores."""
