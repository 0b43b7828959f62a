"""A transformer whose tokens are (lead, time) patches: one checkpoint for 1 to 12 leads."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.masking import hidden_tokens
from modalities.common.encoders.transformer import AttentionPool, Transformer, masked_mean
from modalities.ecg.encoders.resnet import need_beats, steps_mask
from modalities.ecg.features.beats import beat_tokens
from modalities.ecg.sample import LEADS
from modalities.ecg.transform import EcgTransform


class Patches(Encoder):
    """Transformer over (lead, time) patches, with lead and time position embeddings.

    The layout of ViT (arXiv 2010.11929) as in ST-MEM (arXiv 2402.09450) for ECG. Missing leads and padding are excluded
    from attention and pooling.

    Args:
        transform: The transform; defines length and rate.
        patch: Number of samples per patch.
        width: Size of a token, even.
        depth: Layers.
        heads: Attention heads; must divide `width`.
        pool: mean or attention.
        dropout: Fraction of values dropped on each residual branch in training.
        beats: Return heart beats as parts.
        token_weights: Return the attention of the pooling as weights of the tokens; needs pool attention.

    Shape:
        `signal (batch, 12, time)` -> vector `(batch, width)`, tokens `(batch, 12 * ceil(time / patch), width)`, lead
        by lead.

    Example:
        >>> from modalities.ecg import MODALITY
        >>> transform = MODALITY.transform("patches", {})
        >>> MODALITY.encoder("patches", transform, width=16, depth=1, heads=2).token_width
        16
    """

    def __init__(
        self,
        transform: EcgTransform,
        *,
        patch: int = 50,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        pool: str = "mean",
        dropout: float = 0.0,
        beats: bool = False,
        token_weights: bool = False,
    ) -> None:
        super().__init__(width, token_width=width, part_width=width if beats else None)
        self.target_width = patch
        need_beats(transform, beats)
        if width % 2:
            raise UserError(f"ecg patches: width must be even, got {width}")
        if not 1 <= patch <= transform.settings.length:
            raise UserError(f"ecg patches: patch must be in 1..{transform.settings.length} samples, got {patch}")
        if pool not in ("mean", "attention"):
            raise UserError(f"ecg patches: pool must be mean or attention, got {pool!r}")
        if token_weights and pool != "attention":
            raise UserError("ecg patches: token_weights are the attention of the pooling; set pool: attention")
        self.arguments = {
            "patch": patch, "width": width, "depth": depth, "heads": heads,
            "pool": pool, "dropout": dropout, "beats": beats, **({"token_weights": True} if token_weights else {}),
        }  # fmt: skip
        self.token_weights = token_weights
        self.patch = patch
        self.patches = nn.Linear(patch, width)
        self.leads = nn.Parameter(torch.randn(len(LEADS), width) * 0.02)
        self.positions: Tensor
        patches = -(-transform.settings.length // patch)
        self.register_buffer("positions", sines(patches, width), persistent=False)
        self.layers = Transformer(width, depth=depth, heads=heads, dropout=dropout)
        self.pool = AttentionPool(width, heads) if pool == "attention" else None

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["signal"]`."""
        signal: Tensor = inputs["signal"]
        values = self.patches(self._pieces(signal)) + self.leads[:, None] + self.positions  # (batch, 12, places, width)
        mask = self._mask(inputs)
        values = self.layers(values.flatten(1, 2), mask)
        weight = self.pool.weights(values, mask) if self.pool is not None and self.token_weights else None
        tokens = Tokens(values, mask, weight)
        vector = self.pool(values, mask) if self.pool is not None else masked_mean(values, mask)
        parts = beat_tokens(tokens, inputs, self.patch) if self.part_width is not None else None
        return Features(vector, tokens, parts)

    def mask_inputs(
        self, inputs: Inputs, mask_ratio: float, generator: Generator | None = None
    ) -> tuple[Inputs, Tokens]:
        """Mask random patches of any lead and time with zeros (ST-MEM, arXiv 2402.09450)."""
        pieces, mask = self._pieces(inputs["signal"]), self._mask(inputs)
        hidden = hidden_tokens(mask, mask_ratio, generator)
        shown = pieces.masked_fill(torch.unflatten(hidden, 1, pieces.shape[1:3]).unsqueeze(3), 0.0).flatten(2)
        seen = {**inputs, "signal": shown[:, :, : inputs["signal"].shape[2]]}
        return seen, Tokens(pieces.flatten(1, 2), hidden)

    def _pieces(self, signal: Tensor) -> Tensor:
        """Patches of each lead, `(batch, 12, patches, patch)`."""
        return torch.unflatten(F.pad(signal, (0, -signal.shape[2] % self.patch)), 2, (-1, self.patch))

    def _mask(self, inputs: Inputs) -> Tensor:
        """Mask of recorded patches, `(batch, 12 * patches)`."""
        there = steps_mask(inputs["time_mask"], self.patch)
        mask: Tensor = (inputs["lead_mask"][:, :, None] & there[:, None]).flatten(1)
        return mask


def sines(length: int, width: int) -> Tensor:
    """Positions as sines and cosines of frequencies `10000 ** (-2 i / width)` (Vaswani et al. 2017, section 3.5)."""
    frequency = 10000.0 ** (-torch.arange(width // 2) / (width // 2))
    angles = torch.arange(length)[:, None] * frequency
    return torch.cat([angles.sin(), angles.cos()], dim=1)
