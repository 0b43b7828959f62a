"""mmalign: train encoders of any modalities into one shared space, and measure what the space is good for."""

from typing import TYPE_CHECKING

from mmalign.version import __version__

if TYPE_CHECKING:
    from mmalign.bundle import load, save
    from mmalign.errors import BadSample, UserError
    from mmalign.modality import Encoder, Modality, Transform
    from mmalign.model import Aligner
    from mmalign.types import Batch, Embedding, Features, LossOutput, Tokens

_HOMES = {
    "load": "bundle",
    "save": "bundle",
    "Aligner": "model",
    "BadSample": "errors",
    "UserError": "errors",
    "Encoder": "modality",
    "Modality": "modality",
    "Transform": "modality",
    "Batch": "types",
    "Embedding": "types",
    "Features": "types",
    "LossOutput": "types",
    "Tokens": "types",
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

    return getattr(importlib.import_module(f"mmalign.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
