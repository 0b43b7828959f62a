"""Tokens with names: labels and drawings for explanations, and regions that words name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mmalign.modality import Encoder, Transform


@dataclass(frozen=True)
class TokenLabels:
    """Human-readable labels of one sample's tokens: words, atoms, image patches.

    Args:
        labels: The name of each unit, in reading order.
        members: The fraction of each token (or part) that belongs to each unit, `(units, entries)`: columns sum to 1,
            or to 0 for an entry without a visible unit, such as a class token.
        shown: Drawn instead of the sample, for instance the encoder's input; None = the sample.
        spelled: Whether the labels, in order, are the sample itself, as the words of a sentence.
        minor: Indices of units that an explanation lists only if there is no other, such as stop words.
    """

    labels: Sequence[str]
    members: NDArray[np.float64]
    shown: Any = None
    spelled: bool = False
    minor: frozenset[int] = frozenset()


@runtime_checkable
class Explaining(Protocol):
    """A modality whose tokens can be labelled and drawn, for `mmalign.explain`."""

    def token_labels(
        self, sample: Any, transform: "Transform", encoder: "Encoder", level: str, count: int
    ) -> TokenLabels | None:
        """Label the tokens of a sample.

        Args:
            sample: As `Modality.read` returns it.
            transform: The tower's.
            encoder: The tower's.
            level: tokens or parts.
            count: Number of tokens (or parts) that the encoder returned.

        Returns:
            None where this encoder's tokens have no labels.
        """

    def weighted_picture(self, sample: Any, axes: "Axes", weights: Sequence[float]) -> None:
        """Draw a sample with one weight for each unit of `token_labels`."""


@runtime_checkable
class NamedRegions(Protocol):
    """A modality that knows parts of its samples by name, for `evaluate --task grounding`; no model reads them."""

    def named_regions(self, sample: Any) -> Mapping[str, NDArray[np.bool_]]:
        """The parts of a sample that have a name.

        Args:
            sample: As `Modality.read` returns it.

        Returns:
            Name -> which units belong to it, `(units,)`, units in the order of `Explaining.token_labels`.
        """

    def region_of_word(self, word: str) -> str | None:
        """The name, if any, that a word of another tower's sample stands for."""
