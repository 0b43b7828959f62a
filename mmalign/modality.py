"""The contract that a modality signs: read, transform, encode, draw.

A modality is one object, registered under the entry-point group `mmalign.modalities`. Nothing in the core looks
inside: it calls what is declared here. See docs/write-a-modality.md for one built from start to end.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from mmalign.errors import BadSample, UserError
from mmalign.registry import nearest
from mmalign.types import Features, Inputs, Tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ManySamples(Protocol):
    """Many samples that were read at once; indexing gives one, as `Modality.read` would.

    Attributes:
        rejected: Place -> why the sample there cannot be used; indexing raises that.
    """

    rejected: Mapping[int, BadSample]

    def __len__(self) -> int:
        """How many samples, good and bad."""
        ...

    def __getitem__(self, place: int) -> Any:
        """The sample at a place."""
        ...


class Transform(ABC):
    """Turns one sample in memory into one item, and items into an encoder's inputs.

    The same object serves training and use; its `config` travels in the bundle as JSON.
    """

    @property
    def settled(self) -> bool:
        """Whether `rng` changes nothing, and items are worth keeping: within `data.cache_gb` each is made but once."""
        return False

    def prepare(self, samples: ManySamples, cache: Path, workers: int = 0) -> None:  # noqa: B027 - most need not
        """Work out at once what items of these samples will need, and keep it on the disk; optional.

        Items must be the same to the bit with and without it.

        Args:
            samples: What `Modality.read_all` gave; of several lists, one after the other.
            cache: Folder for what is worth keeping, see `Modality.read_all`.
            workers: Processes that may be started.
        """

    def fit(self, samples: Iterable[Any]) -> None:  # noqa: B027 - most transforms have nothing to learn
        """Learn from the training samples (a tokenizer, statistics). Called once, before the encoder is built."""

    @abstractmethod
    def __call__(self, sample: Any, rng: np.random.Generator | None = None) -> Any:
        """Make one item. With `rng`: augment for training, all randomness from it. Without: deterministic."""

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Inputs:
        """Join items into the tensors that the encoder takes; padding is masked, True = real."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything needed to restore this transform, as JSON values: `Modality.restore_transform(config)`."""


class Encoder(nn.Module):
    """Turns collated inputs into `Features`; rows are samples, in order.

    Args:
        width: Size of `Features.vector`.
        token_width: Size of one token, None if this encoder gives no tokens.
        part_width: Size of one part, None if this encoder gives no parts.
        target_width: How many numbers of the input one token stands for, None if this encoder cannot `hide` any.
    """

    def __init__(
        self,
        width: int,
        token_width: int | None = None,
        part_width: int | None = None,
        target_width: int | None = None,
    ) -> None:
        super().__init__()
        self.width, self.token_width, self.part_width, self.target_width = width, token_width, part_width, target_width

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch."""
        raise TypeError(f"{type(self).__name__} must define forward(inputs) -> Features")

    def config(self) -> dict[str, Any]:
        """The arguments, as JSON values, that rebuild this architecture with no network and no pretrained weights."""
        raise TypeError(f"{type(self).__name__} must define config() -> dict")

    def hide(self, inputs: Inputs, share: float, generator: Generator | None = None) -> tuple[Inputs, Tokens]:
        """Take away what a share of the tokens stand for, for pretraining that has them told; optional.

        Args:
            inputs: As `Transform.collate` made them; they stay as they are.
            share: Of each sample's real tokens, in (0, 1).
            generator: Of the CPU; all randomness is from it, None = torch's own.

        Returns:
            The inputs without what is hidden, and what each token stands for, `(batch, tokens, target_width)`, with
            mask True = hidden.
        """
        raise TypeError(f"{type(self).__name__} has a target_width and must define hide(inputs, share, generator)")

    def linear_features(self, inputs: Inputs) -> Tensor | None:
        """What a linear map in this encoder turns into its vector, `(batch, features)`, sparse or dense; optional.

        An encoder that has such a map (n-grams, bins of a fingerprint) can be started in closed form, see
        `mmalign.training.cca.initialisation`; None = it has none, and the head behind its vector is what starts.
        """
        return None

    def set_linear_weights(self, weight: Tensor) -> None:
        """Set that map, `(features, width)`; whatever else adds to the vector must then add nothing."""
        raise TypeError(f"{type(self).__name__} has linear features and must define set_linear_weights(weight)")


@dataclass(frozen=True)
class TokenLabels:
    """What a person sees of one sample's tokens: words, atoms, patches of a picture.

    Args:
        labels: What each unit is called, in reading order.
        members: The share of each token (or part) that falls to each unit, `(units, entries)`: columns sum to 1, or
            to 0 where nothing is to be seen of an entry, as of a class token.
        shown: What is drawn in place of the sample, for instance as the encoder saw it; None = the sample.
        spelled: Whether the labels, one after the other, are the sample: the words of a sentence.
    """

    labels: Sequence[str]
    members: NDArray[np.float64]
    shown: Any = None
    spelled: bool = False


class Modality(ABC):
    """What the core needs to know about one kind of data.

    Class attributes:
        name: The registered name, also the tower's default name.
        description: One line: what it reads and what an item is.
        encoders: Name -> factory `(transform, **args) -> Encoder`. The first one is the default.
        value_is_sample: True where a string is itself a sample (text), False where it names a file.
        weighted_picture: Whether `picture` takes a third argument `weights`, one number a unit (see `units`).
    """

    name: ClassVar[str]
    description: ClassVar[str]
    value_is_sample: ClassVar[bool] = False
    weighted_picture: ClassVar[bool] = False
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]]

    @abstractmethod
    def read(self, source: Any) -> Any:
        """Decode a path, bytes or an in-memory value into a sample; raise `BadSample` when it is not one.

        Samples are plain and compact (NumPy arrays, strings), so that they can be cached and sent between processes.
        """

    def read_all(self, sources: Sequence[Any], cache: Path, workers: int = 0) -> ManySamples | None:
        """Read many values at once, keeping what was made of them in a folder for the next start; optional.

        Only values that stand in the data itself come here (`value_is_sample`), and only where the user named a folder.

        Args:
            sources: As `read` takes them.
            cache: Folder, perhaps not there yet. What stands in it must be named by the content of `sources` and by
                the versions that made it, be checked before it is believed, and be made anew where it is damaged.
            workers: Processes that may be started for it.

        Returns:
            One sample for each source, each equal to what `read` gives. None = read one by one.
        """
        return None

    def with_strict_reading(self) -> "Modality":
        """The same modality, which refuses, when reading, what otherwise gives a warning; optional.

        Raises:
            UserError: it has no such way to read.
        """
        raise UserError(f"modality {self.name!r} has no strict way to read: whatever it reads, it reads without doubt")

    @abstractmethod
    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> Transform:
        """The transform that suits this encoder, `settings` (the recipe's `transform`) taking precedence."""

    @abstractmethod
    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """The transform of which `config` was saved."""

    @abstractmethod
    def picture(self, sample: Any, axes: "Axes") -> None:
        """Draw one sample for a person."""

    @abstractmethod
    def toy_sample(self, label: int, rng: np.random.Generator) -> Any:
        """Make one sample of class `label` (0..9), different at each draw: for tests and trials with no data."""

    def units(self, sample: Any, transform: Transform, encoder: Encoder, level: str, count: int) -> TokenLabels | None:
        """What a person sees of the tokens that an encoder makes of a sample; optional, for `mmalign explain`.

        Args:
            sample: As `read` gives it.
            transform: The tower's.
            encoder: The tower's.
            level: tokens or parts.
            count: How many of them the encoder gave.

        Returns:
            None where this modality cannot say.
        """
        return None

    def mix(self, inputs: Inputs, partners: Tensor, weight: Tensor) -> tuple[Inputs, Tensor]:
        """Mix each row of collated inputs with its partner, for training with soft targets; optional.

        Args:
            inputs: As `collate` made them.
            partners: Which row each is mixed with, `(batch,)`.
            weight: The share of its own sample that each row should keep, `(batch,)`; 1 = not mixed.

        Returns:
            The inputs, and the shares that the rows really kept.
        """
        raise UserError(f"modality {self.name!r} does not know how to mix samples")

    def neighbours(self, samples: Sequence[Any], count: int) -> NDArray[np.int64]:
        """The nearest other samples of each, for batches that hold hard negatives (`--data.neighbours`); optional.

        Must depend on the samples alone, so that every process and every resumed run finds the same.

        Args:
            samples: As `read` gives them, `n`.
            count: How many to name.

        Returns:
            Places among `samples`, nearest first, `(n, count)`, -1 where there are fewer. Samples that are one and the
            same are no neighbours.
        """
        raise UserError(f"modality {self.name!r} does not know which samples are near each other")

    def encoder(self, name: str, transform: Transform, **args: Any) -> Encoder:
        """Build an encoder by name ("" = the default one).

        Raises:
            UserError: the name is unknown, or an argument is not one that this encoder takes.
        """
        name = name or next(iter(self.encoders))
        if name not in self.encoders:
            raise UserError(f"modality {self.name!r} has no encoder {name!r}{nearest(name, self.encoders)}")
        try:
            return self.encoders[name](transform, **args)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            known = list(inspect.signature(self.encoders[name]).parameters)[1:]
            for wrong in sorted(set(args) - set(known)):
                raise UserError(
                    f"encoder {name!r} of modality {self.name!r} has no argument {wrong!r}{nearest(wrong, known)}"
                ) from error
            raise UserError(f"encoder {name!r} of modality {self.name!r}: {error}") from error
