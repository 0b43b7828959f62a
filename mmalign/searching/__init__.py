"""Search in a table of embeddings."""
