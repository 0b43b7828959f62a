"""Optional capabilities of modalities and encoders, as protocols.

A class has a capability by defining its methods; it need not inherit or register anything. Callers check with
`capability(thing, Protocol)`, or with `isinstance` where the absence of the capability is no error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from mmalign.errors import BadSample, UserError
from mmalign.types import Inputs, Tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mmalign.modality import Encoder, Modality, Transform

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


@runtime_checkable
class StrictReading(Protocol):
    """A modality with data-quality warnings that can reject such samples (`reject_warnings` of a tower)."""

    def with_strict_reading(self) -> "Modality":
        """A copy in strict mode: samples that would raise a data-quality warning are rejected with `BadSample`."""


@runtime_checkable
class Truncating(Protocol):
    """A transform that drops the end of long samples, such as a tokenizer; check, train and evaluate count them.

    Attributes:
        truncation: The limit and the setting that raises it, for messages: "64 word pieces (max_length)".
    """

    @property
    def truncation(self) -> str: ...

    def truncates(self, sample: Any) -> bool:
        """Whether a part of this sample, as `Modality.read` returns it, is dropped."""


@runtime_checkable
class CachedReading(Protocol):
    """A modality that reads many samples at once and caches them on disk (`data.cache`).

    Used only where strings are samples (`value_is_sample`) and the user set a folder.
    """

    def read_many(
        self, sources: Sequence[Any], cache: Path, workers: int = 0
    ) -> tuple[Sequence[Any], Mapping[int, BadSample]] | None:
        """Read many values.

        Args:
            sources: As `Modality.read` takes them, `n`.
            cache: Folder; created if missing. Name its files by the content of `sources` and the software versions,
                verify them on opening, and rebuild damaged ones.
            workers: Maximum number of processes to start.

        Returns:
            `n` samples, each equal to what `read` returns, and the error of each index that cannot be read; indexing
            raises it. None = read one by one.
        """


@runtime_checkable
class CachedFeatures(Protocol):
    """A transform that computes the features of many samples at once and caches them on disk (`data.cache`)."""

    def featurise_many(self, samples: Sequence[Any], cache: Path, workers: int = 0) -> Sequence[Any] | None:
        """Compute the features of many samples.

        Args:
            samples: Output of this modality's `CachedReading.read_many`, `n`.
            cache: Folder, as for `read_many`.
            workers: Maximum number of processes to start.

        Returns:
            `n` features, each equal to the bit to what `featurise` returns. None = compute one by one.
        """


@runtime_checkable
class DiskCached(Protocol):
    """A modality of files that are slow to read: the core caches samples and their features on disk (`data.cache`).

    Samples and features consist of arrays, numbers, strings, lists, dictionaries and `cached_types`; others are not
    cached.

    Attributes:
        cached_types: Dataclasses that occur in samples and features.
        reading_libraries: Distributions whose versions can change what is read, such as pillow.
    """

    cached_types: Sequence[type]
    reading_libraries: Sequence[str]

    def files_read(self, path: Path) -> Sequence[Path]:
        """All files whose content decides what `read(path)` returns: the file, and those beside it that it reads."""


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
class Mixing(Protocol):
    """A modality that mixes collated samples (mixup, CutMix), for training with soft targets."""

    def mix(self, inputs: Inputs, partners: Tensor, weight: Tensor) -> tuple[Inputs, Tensor]:
        """Mix each row with its partner.

        Args:
            inputs: As `Transform.collate` returns them.
            partners: Index of each row's partner, `(batch,)`.
            weight: Requested weight of each row's own sample, `(batch,)`; 1 = not mixed.

        Returns:
            The mixed inputs, and the actual weight of each row's own sample.
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


@runtime_checkable
class Masking(Protocol):
    """An encoder whose input tokens can be masked, for masked pretraining.

    Attributes:
        target_width: Number of input values that one token covers: the size of a reconstruction target.
    """

    target_width: int

    def mask_inputs(
        self, inputs: Inputs, mask_ratio: float, generator: Generator | None = None
    ) -> tuple[Inputs, Tokens]:
        """Mask a fraction of the tokens for masked pretraining.

        Args:
            inputs: As `Transform.collate` returns them; not modified.
            mask_ratio: Fraction of each sample's real tokens that is masked, in (0, 1).
            generator: Source of all randomness, on the CPU; None = torch's global one.

        Returns:
            The masked inputs, and the reconstruction targets `(batch, tokens, target_width)` with mask True = masked.
        """


@runtime_checkable
class Decoding(Protocol):
    """A masking encoder with its own decoder, for example because it processes only visible tokens."""

    def decoder(self) -> nn.Module:
        """Build the decoder, with the signature `decoder(tokens, inputs) -> (features, reconstruction)`.

        `tokens` are the encoder's, `inputs` the output of `Masking.mask_inputs`; features `(batch, tokens, any width)`
        and reconstruction `(batch, tokens, target_width)` are in the order of the targets.
        """


@runtime_checkable
class PretrainedLogits(Protocol):
    """An encoder of a pretrained model that was trained with a learnt scale of its similarities, such as CLIP's."""

    def pretrained_logits(self) -> tuple[float, float | None] | None:
        """Scale and bias (None = none) of the model's logits; None if the model is not known here."""


@runtime_checkable
class LinearFeatures(Protocol):
    """An encoder whose vector is a linear map of its inputs (n-grams, fingerprints): CCA initialisation sets that map.

    For any other encoder, CCA initialisation sets the linear head.
    """

    def linear_features(self, inputs: Inputs) -> Tensor:
        """Input features of the encoder's linear layer, `(batch, features)`, sparse or dense."""

    def set_linear_weights(self, weight: Tensor) -> None:
        """Set the layer's weights, `(features, width)`; other terms of the vector must then be 0."""
