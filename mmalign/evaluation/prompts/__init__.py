"""Sentences that stand for classes and values, and their embeddings."""
