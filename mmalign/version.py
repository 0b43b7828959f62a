"""The version of the package, and the versions of the three file formats it writes."""

__version__ = "0.1.0"

BUNDLE_FORMAT = 2
"""Format of bundles. Raise it whenever a key or a name inside a bundle changes its meaning."""

CHECKPOINT_FORMAT = 2
"""Format of what mmalign adds to a Lightning checkpoint, and of the parameter names in it."""

CACHE_FORMAT = 2
"""Format of the cache on disk (`data.cache`). Raise it whenever a modality reads other samples, or computes
other features, from the same file and settings."""
