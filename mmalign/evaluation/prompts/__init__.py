"""Prompts of classes and values, and their embeddings."""
