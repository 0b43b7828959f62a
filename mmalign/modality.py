"""Base classes of a modality: reading, transform, encoder, drawing.

A modality is one object, registered under the entry-point group `mmalign.modalities`. The core calls only the methods
declared here. See docs/write-a-modality.md for a complete example.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import nn

from mmalign.building import refusing
from mmalign.errors import UserError
from mmalign.registry import nearest
from mmalign.types import Features, Inputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Transform(ABC):
    """Preprocessing of samples for an encoder, in three steps: `featurise`, `__call__` (augmentation), `collate`.

    The same object is used in training and inference; its `config` is saved with the model as JSON.

    Class attributes:
        fit_before_featurise: True where `featurise` needs what `fit` learns, such as a vocabulary: `fit` is then called
            with samples instead of features.
        has_training_features: True where augmentation needs other features than evaluation, such as an image beyond its
            crop: `__call__` with `rng` then gets those of `featurise_for_training`. May be set by the constructor.
    """

    fit_before_featurise: ClassVar[bool] = False
    has_training_features: bool = False

    def featurise(self, sample: Any) -> Any:
        """Compute the deterministic features: called once for each sample and cached, up to `data.cache_gb`.

        Args:
            sample: As `Modality.read` returns it; not modified.

        Returns:
            The features that `fit` and `__call__` take; by default the sample itself.
        """
        return sample

    def featurise_for_training(self, sample: Any) -> Any:
        """Compute the deterministic features that augmentation starts from; by default those of `featurise`.

        Args:
            sample: As `Modality.read` returns it; not modified.
        """
        return self.featurise(sample)

    def fit(self, features: Iterable[Any]) -> None:  # noqa: B027 - most transforms have nothing to fit
        """Fit to the training samples (a tokenizer, statistics). Called once, before the encoder is built."""

    def __call__(self, features: Any, rng: np.random.Generator | None = None) -> Any:
        """Compute one item. With `rng`: augmented for training, all randomness from it. Without: deterministic."""
        return features

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Inputs:
        """Join items into the tensors that the encoder takes; padding is masked, True = real."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything needed to restore this transform, as JSON values: `Modality.restore_transform(config)`."""

    def item(self, sample: Any, rng: np.random.Generator | None = None) -> Any:
        """One sample to one item: `featurise` (with `rng`: `featurise_for_training`), then `__call__`."""
        training = rng is not None and self.has_training_features
        return self(self.featurise_for_training(sample) if training else self.featurise(sample), rng)


class Encoder(nn.Module):
    """Turns collated inputs into `Features`; rows are samples, in order.

    Args:
        width: Size of `Features.vector`.
        token_width: Size of one token, None if this encoder returns no tokens.
        part_width: Size of one part, None if this encoder returns no parts.
    """

    arguments: dict[str, Any]
    """The constructor's arguments without the transform, as JSON values; set by the constructor, see `config`."""

    def __init__(
        self,
        width: int,
        token_width: int | None = None,
        part_width: int | None = None,
    ) -> None:
        super().__init__()
        self.width, self.token_width, self.part_width = width, token_width, part_width

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch."""
        raise TypeError(f"{type(self).__name__} must define forward(inputs) -> Features")

    def config(self) -> dict[str, Any]:
        """Arguments, as JSON values, that rebuild this architecture without network and pretrained weights.

        By default a copy of `arguments`.
        """
        if "arguments" not in self.__dict__:
            raise TypeError(f"{type(self).__name__} must set self.arguments, or define config() -> dict")
        return dict(self.arguments)


class Modality(ABC):
    """One kind of data: reading, transforms, encoders, drawing.

    Class attributes:
        name: The registered name, also the tower's default name.
        description: One line: what it reads and what an item is.
        encoders: Name -> factory `(transform, **args) -> Encoder`. The first one is the default.
        value_is_sample: True if a string is itself a sample (text), False if it is a file name.
        file_suffixes: Where strings are samples: endings of strings that name a file nevertheless, such as `.sdf`.
        separable: Whether `--data.separator` divides a string into several; False where samples may contain it.
        bare_suffixes: Endings that the name of a file may lack, such as `.hea` of a WFDB record.
        max_file_bytes: Size of the largest file that `read` accepts: larger members of archives are never unpacked.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    value_is_sample: ClassVar[bool] = False
    file_suffixes: ClassVar[tuple[str, ...]] = ()
    separable: ClassVar[bool] = True
    bare_suffixes: ClassVar[tuple[str, ...]] = ()
    max_file_bytes: ClassVar[int] = 1 << 30
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]]

    @abstractmethod
    def read(self, source: Any) -> Any:
        """Decode a path, bytes or an in-memory value into a sample; raise `BadSample` if that fails.

        Samples are plain and compact (NumPy arrays, strings), so that they can be cached and sent between processes.
        """

    @abstractmethod
    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> Transform:
        """The transform for this encoder; `settings` (the recipe's `transform`) take precedence."""

    @abstractmethod
    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """Restore a transform from its saved `config`."""

    @abstractmethod
    def picture(self, sample: Any, axes: "Axes") -> None:
        """Draw one sample."""

    @abstractmethod
    def toy_sample(self, label: int, rng: np.random.Generator) -> Any:
        """Generate a random sample of class `label` (0..9), for tests and trials without data."""

    def encoder(self, name: str, transform: Transform, **args: Any) -> Encoder:
        """Build an encoder by name ("" = the default one).

        Raises:
            UserError: the name is unknown, an argument is not one that this encoder takes, or its layers cannot be
                built.
        """
        name = name or next(iter(self.encoders))
        if name not in self.encoders:
            raise UserError(f"modality {self.name!r} has no encoder {name!r}{nearest(name, self.encoders)}")
        what = f"encoder {name!r} of modality {self.name!r} with {', '.join(f'{k}={v!r:.40}' for k, v in args.items())}"
        try:
            with refusing(what if args else what.removesuffix(" with ")):
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
