"""What encoders and modalities offer to objectives and initialisations: mixing, masking, decoding, linear features."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from mmalign.types import Inputs, Tokens

if TYPE_CHECKING:
    from mmalign.modality import Encoder, Transform


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


@runtime_checkable
class LearntContext(Protocol):
    """A modality whose encoders can be put behind learnt context vectors, for prompt tuning (`mmalign.tune`)."""

    def with_context(
        self, name: str, encoder: "Encoder", transform: "Transform", *, context: int, starts: Sequence[str]
    ) -> tuple[str, "Encoder"]:
        """Put an encoder behind context vectors; without any, what it computes does not change.

        Args:
            name: Registered name of the encoder.
            encoder: The trained encoder, which is used as it is, not copied.
            transform: Its transform.
            context: Number of vectors.
            starts: For each expert, the sample from whose token embeddings its vectors start; "" = random.

        Returns:
            The registered name of the new encoder, and the encoder. Its parameter `context`, `(experts, context, ...)`,
            is the only new one; the inputs of its `forward` may hold `expert`, the index of the only expert to use.

        Raises:
            UserError: the encoder has no token embeddings.
        """
