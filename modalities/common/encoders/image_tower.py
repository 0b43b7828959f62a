"""Any encoder of the image modality, applied to each frame of a clip."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.common.encoders.temporal_pooling import TemporalPool
from modalities.image import MODALITY as IMAGE
from modalities.image.transform import ImageSettings, ImageTransform


class FrameSettings(Protocol):
    """Settings of a clip transform that an encoder of frames reads: size, and levels on the scale 0..1."""

    @property
    def size(self) -> int: ...
    @property
    def mean(self) -> float | tuple[float, float, float]: ...
    @property
    def std(self) -> float | tuple[float, float, float]: ...


class FrameTransform(Protocol):
    """A clip transform: its settings, and whether it was loaded from a bundle."""

    @property
    def settings(self) -> FrameSettings: ...
    @property
    def sealed(self) -> bool: ...


class ImageTower(Encoder):
    """An image encoder per frame, with grey as three equal channels, and pooling over time.

    With `layers: 0` and `pool: mean` the vector is the mean of the frames' vectors, whatever their order, and tokens
    are those vectors, as from the frozen teacher of EchoingECG (arXiv 2509.25791). With pretrained weights, the
    transform has their size, mean and standard deviation.

    Args:
        transform: The transform; gives size, mean and standard deviation.
        tower: The name of an encoder of the modality `image`: convnet, vit, timm, open_clip.
        args: Its arguments.
        pool: mean or attention.
        layers: Layers of a transformer over the frames before pooling; 0 = none.
        heads: Attention heads; must divide the tower's width where there is attention.

    Shape:
        `frames (batch, time, size, size)` or `(batch, time, 3, size, size)` uint8, `mask (batch, time)` -> vector
        `(batch, the tower's width)`, a token for each frame.

    Example:
        >>> from modalities.echo import MODALITY
        >>> args = {"tower": "vit", "args": {"width": 16, "depth": 1, "heads": 2}}
        >>> MODALITY.encoder("image", MODALITY.transform("image", args, size=32), **args).width
        16
    """

    def __init__(
        self,
        transform: FrameTransform,
        *,
        tower: str = "convnet",
        args: Mapping[str, Any] | None = None,
        pool: str = "mean",
        layers: int = 0,
        heads: int = 4,
    ) -> None:
        _known(tower)
        inner = IMAGE.encoder(tower, image_transform(transform), **dict(args or {}))
        super().__init__(inner.width, token_width=inner.width)
        self.arguments = {"tower": tower, "pool": pool, "layers": layers, "heads": heads}
        self.stride = 1  # frames per token
        self.tower = inner
        self.time = TemporalPool(inner.width, pool=pool, layers=layers, heads=heads)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["frames"]`."""
        mask = inputs["mask"]
        # Masked frames repeat the last real one, so that batch norm is computed over real images.
        pixels = inputs["frames"].flatten(0, 1)
        if pixels.ndim == 3:
            pixels = pixels.unsqueeze(1).expand(-1, 3, -1, -1)
        values = self.tower({"pixels": pixels}).vector.unflatten(0, mask.shape)
        return self.time(values, mask)  # type: ignore[no-any-return]

    def config(self) -> dict[str, Any]:
        """The arguments; those of the image encoder from its own `config`, without weights."""
        return {**self.arguments, "args": self.tower.config()}


def tower_settings(encoder_args: Mapping[str, Any]) -> dict[str, Any]:
    """The transform's settings that the tower's weights were trained with.

    Raises:
        UserError: there is no such tower.
    """
    tower = encoder_args.get("tower", "convnet")
    _known(tower)
    args = encoder_args.get("args") or {}
    if tower not in ("timm", "open_clip"):  # trained from scratch: the defaults of this modality
        return {"size": args["size"]} if args.get("size") is not None else {}
    transform = IMAGE.transform(tower, args)
    assert isinstance(transform, ImageTransform)
    settings = transform.settings
    crop = "centre" if settings.crop == "shortest" else settings.crop  # clips crop before they are resized
    return {"size": settings.size, "mean": settings.mean, "std": settings.std, "crop": crop}


def _known(tower: object) -> None:
    known = [name for name in IMAGE.encoders if name != "features"]  # these are not made of a clip's pixels
    if tower not in known:
        raise UserError(f"tower must be one of {', '.join(known)}, got {tower!r}")


def image_transform(transform: FrameTransform) -> ImageTransform:
    """The image transform with the size, mean and standard deviation of a clip transform."""
    mean, std = (tuple(np.broadcast_to(getattr(transform.settings, name), 3).tolist()) for name in ("mean", "std"))
    return ImageTransform(ImageSettings(size=transform.settings.size, mean=mean, std=std), sealed=transform.sealed)
