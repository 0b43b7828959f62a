"""Bags: several precomputed vectors per sample, such as a teacher's embeddings of the frames of one clip."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.modality import Encoder, Modality, Transform
from mmalign.registry import nearest, settings
from mmalign.types import Features, Inputs, Tokens
from modalities.vector.fixed_width import FixedWidthTransform
from modalities.vector.modality import SYNTHETIC_WIDTH, VectorModality
from modalities.vector.read import read_bag

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bag = NDArray[np.float32]


class BagTransform(FixedWidthTransform):
    """Check the width of every bag, and pad a batch to its largest.

    Args:
        width: Size of a vector; None = that of the training samples.
        most: Maximum number of members of a bag: evenly spaced ones are selected, random ones in training.

    Shape:
        item `(members, width)` float32 -> `values (batch, members, width)`, `mask (batch, members)`.
    """

    kind = "bag"

    def __init__(self, width: int | None = None, most: int = 64) -> None:
        super().__init__(width)
        if most < 1:
            raise UserError(f"bag: most must be at least 1, got {most}")
        self.most = most

    def __call__(self, features: Bag, rng: np.random.Generator | None = None) -> Bag:
        """Check the width, and select members if there are too many."""
        sample = self.checked(features)
        if len(sample) <= self.most:
            return sample
        chosen = np.linspace(0, len(sample) - 1, self.most).round().astype(int)
        if rng is not None:
            chosen = np.sort(rng.choice(len(sample), self.most, replace=False))
        members: Bag = sample[chosen]
        return members

    def collate(self, items: Sequence[Bag]) -> Inputs:
        """Pad with zeros, masked."""
        longest = max(len(item) for item in items)
        values = np.zeros((len(items), longest, items[0].shape[1]), dtype=np.float32)
        mask = np.zeros((len(items), longest), dtype=bool)
        for row, item in enumerate(items):
            values[row, : len(item)], mask[row, : len(item)] = item, True
        return {"values": torch.from_numpy(values), "mask": torch.from_numpy(mask)}

    def config(self) -> dict[str, Any]:
        """The arguments, width included."""
        return {"width": self.width, "most": self.most}


class Members(Encoder):
    """Unchanged vectors: tokens are the members, the vector is their mean.

    Args:
        transform: The fitted transform.
        width: Size of a vector; None = the transform's.

    Example:
        >>> import torch
        >>> from modalities.vector import BAG
        >>> encoder = BAG.encoder("members", BAG.transform("members", {"width": 2}))
        >>> two = {"values": torch.tensor([[[0.0, 2.0], [2.0, 0.0]]]), "mask": torch.tensor([[True, True]])}
        >>> encoder(two).vector
        tensor([[1., 1.]])
    """

    def __init__(self, transform: BagTransform, *, width: int | None = None) -> None:
        size = transform.checked_width(width)
        super().__init__(size, token_width=size)
        self.arguments = {"width": size}

    def forward(self, inputs: Inputs) -> Features:
        """Hand over."""
        values, mask = inputs["values"], inputs["mask"]
        real = mask[:, :, None]
        mean = values.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
        return Features(mean, Tokens(values, mask))


class BagModality(Modality):
    """Sets of precomputed embeddings."""

    name = "bag"
    description = "several vectors per sample: matrices, .npy files; a sample is (members, width) float32"
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {"members": Members}

    def read(self, source: Any) -> Bag:
        """Read, see `read_bag`."""
        return read_bag(source)

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> BagTransform:
        """A transform with the width of the encoder's arguments or of the training samples."""
        for name in settings:
            if name != "most":
                raise UserError(f"bag transform has no setting {name!r}{nearest(name, ['most'])}")
        return BagTransform(encoder_args.get("width"), **settings)

    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """From `BagTransform.config()`."""
        return settings(BagTransform, {"width": config["width"], "most": config["most"]}, "bag transform")

    def picture(self, sample: Bag, axes: "Axes") -> None:
        """Draw the members as rows of a heat map."""
        axes.imshow(sample, aspect="auto", cmap="RdBu", vmin=-abs(sample).max(), vmax=abs(sample).max())

    def toy_sample(self, label: int, rng: np.random.Generator) -> Bag:
        """One to five noisy vectors about the direction of a class, of width 16."""
        one = VectorModality()
        return np.stack([one.toy_sample(label, rng) for _ in range(int(rng.integers(1, 6)))]).reshape(
            -1, SYNTHETIC_WIDTH
        )
