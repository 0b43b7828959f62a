"""Samples that are compared or changed: hard negatives and perturbations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mmalign.modality import Transform


@runtime_checkable
class HardNegatives(Protocol):
    """A modality that finds similar samples, for batches with hard negatives."""

    def neighbours(self, samples: Sequence[Any], count: int) -> NDArray[np.int64]:
        """The nearest other samples of each; a function of the samples only, equal on every process.

        Args:
            samples: As `Modality.read` returns them, `n`. They may be decoded on access, so go through them once.
            count: Number of neighbours of each.

        Returns:
            Indices into `samples`, nearest first, `(n, count)`, -1 where there are fewer. Identical samples are not
            neighbours.
        """


@runtime_checkable
class SurfaceFeatures(Protocol):
    """A modality that describes the form of its samples, apart from their meaning: the words of a text."""

    def surface_features(self, samples: Sequence[Any]) -> Any:
        """Features of the form of samples; their dot product is the surface similarity, from 0 to 1.

        Args:
            samples: As `Modality.read` returns them, `n`. They may be decoded on access, so go through them once.

        Returns:
            Unit or zero rows, `(n, features)`: a NumPy array, or a sparse matrix of SciPy in CSR format.
        """


@runtime_checkable
class Perturbing(Protocol):
    """A modality whose samples can be perturbed, for the task `robustness`.

    Attributes:
        perturbations: Name -> levels in the perturbation's own unit, weakest first.
    """

    perturbations: Mapping[str, Sequence[float]]

    def perturb(self, sample: Any, transform: "Transform", name: str, level: float, rng: np.random.Generator) -> Any:
        """Perturb a sample.

        Args:
            sample: As `Modality.read` returns it; not modified.
            transform: The tower's transform, whose settings can state conventions of the files, such as the up axis.
            name: One of `perturbations`.
            level: One of its levels.
            rng: Source of all randomness. Draw the same numbers at every level, and scale their effect by the level.

        Returns:
            A valid sample of the same kind.
        """
