"""The version of the package, and the versions of the two file formats it writes."""

__version__ = "0.1.0"

BUNDLE_FORMAT = 2
"""Format of bundles. Raise it whenever a key or a name inside a bundle changes its meaning."""

CHECKPOINT_FORMAT = 2
"""Format of what mmalign adds to a Lightning checkpoint, and of the parameter names in it."""
