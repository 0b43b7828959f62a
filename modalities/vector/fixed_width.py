"""Transform of vectors of one width, fitted to the training samples."""

from collections.abc import Iterable
from typing import Any, ClassVar

from numpy.typing import NDArray

from mmalign.errors import BadSample, UserError
from mmalign.modality import Transform


class FixedWidthTransform(Transform):
    """Base transform of arrays `(..., width)` of one width.

    Args:
        width: Size of a vector; None = that of the first training sample.

    Class attributes:
        kind: What a sample is called in messages.
    """

    kind: ClassVar[str]

    def __init__(self, width: int | None = None) -> None:
        if width is not None and (not isinstance(width, int) or width < 1):
            raise UserError(f"{self.kind}: width must be a positive integer, got {width!r}")
        self._width = width

    @property
    def width(self) -> int:
        """Size of a vector."""
        if self._width is None:
            raise UserError("the width of the vectors is not known yet: call fit, or give args: {width: ...}")
        return self._width

    def checked_width(self, width: int | None) -> int:
        """The width, checked against the encoder's argument.

        Raises:
            UserError: `width` is not this transform's.
        """
        if width is not None and width != self.width:
            raise UserError(f"the encoder takes vectors of width {width}, the data has {self.width}")
        return self.width

    def fit(self, features: Iterable[NDArray[Any]]) -> None:
        """Set the width from the first sample, and check that of all others.

        Raises:
            UserError: two samples differ in width, or there is none and no width was given.
        """
        for index, sample in enumerate(features):
            if self._width is None:
                self._width = sample.shape[-1]
            if sample.shape[-1] != self._width:
                raise UserError(
                    f"vectors must have one width: training {self.kind} {index} has {sample.shape[-1]}, "
                    f"expected {self._width}"
                )
        if self._width is None:
            raise UserError(f"no {self.kind}s to learn the width from: give args: {{width: ...}}")

    def checked(self, sample: NDArray[Any]) -> NDArray[Any]:
        """The sample, with its width checked.

        Raises:
            BadSample: the width is another one.
        """
        if sample.shape[-1] != self.width:
            raise BadSample(self.kind, f"vectors of {self.width} numbers", str(sample.shape[-1]))
        return sample
