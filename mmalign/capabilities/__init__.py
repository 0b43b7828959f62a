"""Optional capabilities of modalities and encoders, as protocols.

A class has a capability by defining its methods; it need not inherit or register anything. Callers check with
`capability(thing, Protocol)`, or with `isinstance` where the absence of the capability is no error.
"""

from typing import TypeVar

from mmalign.capabilities.explaining import Explaining, NamedRegions, TokenLabels
from mmalign.capabilities.reading import CachedFeatures, CachedReading, DiskCached, StrictReading, Truncating
from mmalign.capabilities.samples import HardNegatives, Perturbing, SurfaceFeatures
from mmalign.capabilities.training import Decoding, LearntContext, LinearFeatures, Masking, Mixing, PretrainedLogits
from mmalign.errors import UserError

__all__ = [
    "CachedFeatures",
    "CachedReading",
    "Decoding",
    "DiskCached",
    "Explaining",
    "HardNegatives",
    "LearntContext",
    "LinearFeatures",
    "Masking",
    "Mixing",
    "NamedRegions",
    "Perturbing",
    "PretrainedLogits",
    "StrictReading",
    "SurfaceFeatures",
    "TokenLabels",
    "Truncating",
    "capability",
]

P = TypeVar("P")


def capability(thing: object, protocol: type[P], purpose: str) -> P:
    """The same object, as one that has a capability.

    Args:
        thing: A modality or an encoder.
        protocol: A protocol of this module.
        purpose: The feature that needs it, such as a flag; the message begins with it.

    Raises:
        UserError: it does not define the protocol's methods; the message lists them.

    Example:
        >>> from mmalign import registry
        >>> capability(registry.load("modalities", "text"), Mixing, "mixup.tower")
        Traceback (most recent call last):
        mmalign.errors.UserError: mixup.tower: modality 'text' does not support Mixing; it must define mix
    """
    if isinstance(thing, protocol):
        return thing
    name = getattr(thing, "name", None)
    who = f"modality {name!r}" if isinstance(name, str) else f"encoder {type(thing).__name__}"
    members = sorted(member for member in dir(protocol) if not member.startswith("_"))
    members += sorted(set(getattr(protocol, "__annotations__", {})) - set(members))
    raise UserError(f"{purpose}: {who} does not support {protocol.__name__}; it must define {' and '.join(members)}")
