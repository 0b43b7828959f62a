"""Splits to embeddings: the one loop, padded and jagged sets, blocks of scores."""
