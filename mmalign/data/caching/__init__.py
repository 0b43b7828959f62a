"""Caches of decoded samples and features, in memory and on disk."""
