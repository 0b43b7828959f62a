"""Stored vectors: the vectors of a table at full or reduced precision, decoded a part at a time."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmalign.errors import UserError

PRECISIONS = ("float32", "float16", "int8", "binary")
_LEVELS = 127
_ROWS = 2**14


@dataclass(frozen=True)
class StoredVectors:
    """Vectors of one length at some precision.

    | precision | bytes a number | decoded value |
    | --- | --- | --- |
    | float32 | 4 | the number |
    | float16 | 2 | the number, rounded to 11 bits |
    | int8 | 1 | `center + step * code`, code -127 to 127, over the range of each coordinate |
    | binary | 1/8 | `center + step` or `center - step`: the sign of the centred coordinate |

    `center` and `step` are vectors, one number for each coordinate: for int8 the middle of the coordinate's range and
    1/254 of it, for binary the mean and the mean absolute deviation, which is the best value for a sign in squared
    error.

    Args:
        codes: `(n, dim)` of the precision's type; binary: `(n, ceil(dim / 8))` uint8, the first bit is the highest.
        dim: Numbers of a vector.
        precision: float32, float16, int8 or binary.
        center: `(dim,)`; None for floats.
        step: `(dim,)`; None for floats.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> StoredVectors.of(vectors, "binary").codes.flatten().tolist()  # of the centred vectors: +-, -+, ++
        [128, 64, 192]
    """

    codes: Tensor
    dim: int
    precision: str = "float32"
    center: Tensor | None = None
    step: Tensor | None = None

    @staticmethod
    def of(vectors: Tensor, precision: str = "float32") -> "StoredVectors":
        """Store vectors `(n, dim)` at a precision.

        Raises:
            UserError: no such precision, or a vector is beyond the range of float16.
        """
        require_precision(precision)
        vectors = vectors.detach().cpu()
        dim = vectors.shape[1]
        if precision in ("float32", "float16"):
            codes = vectors.float() if precision == "float32" else vectors.half()
            if not bool(torch.isfinite(codes).all()):
                raise UserError(f"expected vectors within the range of {precision}, up to 65,504 for float16")
            return StoredVectors(codes.contiguous(), dim, precision)
        vectors = vectors.float()
        if precision == "int8":
            low, high = (vectors.amin(dim=0), vectors.amax(dim=0)) if len(vectors) else (torch.zeros(dim),) * 2
            center, step = (low + high) / 2, (high - low) / (2 * _LEVELS)
            codes = ((vectors - center) / step.clamp_min(1e-30)).round().clamp(-_LEVELS, _LEVELS).to(torch.int8)
            return StoredVectors(codes, dim, precision, center, step)
        center = vectors.mean(dim=0) if len(vectors) else torch.zeros(dim)
        step = (vectors - center).abs().mean(dim=0) if len(vectors) else torch.zeros(dim)
        bits = np.packbits((vectors > center).numpy(), axis=1)
        return StoredVectors(torch.from_numpy(bits), dim, precision, center, step)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes."""
        return self.codes.numel() * self.codes.element_size()

    def decode(self, rows: slice | Tensor = slice(None)) -> Tensor:
        """The vectors of some rows, `(rows, dim)` float32; a view where they are stored so."""
        codes = self.codes[rows]
        if self.center is None or self.step is None:
            return codes.float()
        if self.precision == "binary":
            bits = torch.from_numpy(np.unpackbits(codes.numpy(), axis=1, count=self.dim))
            return self.center + self.step * (bits.float() * 2 - 1)
        return self.center + self.step * codes

    def at(self, precision: str) -> "StoredVectors":
        """The same vectors at another precision; from a lower one nothing comes back that was lost."""
        return self if precision == self.precision else StoredVectors.of(self.decode(), precision)

    def is_finite(self) -> bool:
        """Whether no number decodes to NaN or infinity; reads the vectors without a copy of all."""
        parts = []
        if self.center is not None and self.step is not None:  # the largest that any code decodes to
            parts.append(self.center.abs() + self.step.abs() * (1 if self.precision == "binary" else _LEVELS + 1))
        if self.codes.is_floating_point():
            parts += [self.codes[start : start + _ROWS] for start in range(0, len(self), _ROWS)]
        return all(bool(torch.isfinite(part).all()) for part in parts)


def require_precision(precision: str) -> None:
    """Raise a `UserError` for an unknown name of a precision."""
    if precision not in PRECISIONS:
        raise UserError(f"precision: expected {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, got {precision!r}")
