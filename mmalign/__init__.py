"""mmalign: train encoders of any modalities into one shared space, and measure what the space is good for."""

__version__ = "0.1.0"

_HOMES = {
    "load": "mmalign.bundle",
    "save": "mmalign.bundle",
    "Aligner": "mmalign.model",
    "Batch": "mmalign.types",
    "Embedding": "mmalign.types",
    "Features": "mmalign.types",
    "LossOutput": "mmalign.types",
    "Tokens": "mmalign.types",
    "Modality": "mmalign.modality",
    "Encoder": "mmalign.modality",
    "Transform": "mmalign.modality",
    "BadSample": "mmalign.errors",
    "UserError": "mmalign.errors",
}

__all__ = [
    "Aligner",
    "BadSample",
    "Batch",
    "Embedding",
    "Encoder",
    "Features",
    "LossOutput",
    "Modality",
    "Tokens",
    "Transform",
    "UserError",
    "__version__",
    "load",
    "save",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use, so that `import mmalign` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mmalign' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
