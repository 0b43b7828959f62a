"""Queries, galleries, relevance and ranks."""
