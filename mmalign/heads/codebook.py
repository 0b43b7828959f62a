"""FDT's finite discrete tokens: one codebook for all towers, and each tower's query head."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional.sparse_codebook import ground
from mmalign.types import Tokens

START = 0.08
"""Temperature per code at which 30 % of the codes have weight initially, see `CodebookConfig`."""


@dataclass
class CodebookConfig:
    """Configuration of the codebook shared by all towers; built where an objective needs it (fdt).

    Sparsemax has no gradient for a code without weight, so the initial temperature must give enough codes weight. The
    fraction of codes with weight depends on temperature / codes: at 0.08 it is about 30 % in an untrained model
    (measured: 26 to 36 %, for samples of 5 to 50 tokens). Published: 1000 for 16,384 codes, 0.06.

    Args:
        codes: Number of codes; published: 16,384, for millions of pairs.
        temperature: Divides the scores; null = 0.08 times the number of codes.
        mode: fixed, learnt, or scheduled: geometric decay to `final_temperature` over the training.
        final_temperature: Temperature at the end of the schedule; null = a tenth of the initial one.
        activation: sparsemax or softmax.
    """

    codes: int = 1024
    temperature: float | None = None
    mode: Literal["fixed", "learnt", "scheduled"] = "fixed"
    final_temperature: float | None = None
    activation: Literal["sparsemax", "softmax"] = "sparsemax"


class Codebook(nn.Module):
    """The codes and their temperature; both are always part of the saved weights.

    Args:
        dim: Size of a code.
        config: See `CodebookConfig`.

    Example:
        >>> book = Codebook(8, CodebookConfig(codes=100))
        >>> book.temperature
        tensor([8.])
    """

    no_decay = ("codes",)  # weight decay would move unused codes to zero, where all scores are equal

    def __init__(self, dim: int, config: CodebookConfig) -> None:
        super().__init__()
        if config.codes < 1:
            raise UserError(f"codebook.codes must be at least 1, got {config.codes}")
        if config.mode not in ("fixed", "learnt", "scheduled"):
            raise UserError(f"codebook.mode must be fixed, learnt or scheduled, got {config.mode!r}")
        if config.activation not in ("sparsemax", "softmax"):
            raise UserError(f"codebook.activation must be sparsemax or softmax, got {config.activation!r}")
        start = START * config.codes if config.temperature is None else config.temperature
        final = start / 10 if config.final_temperature is None else config.final_temperature
        if not (0 < start < math.inf and 0 < final < math.inf):
            raise UserError(f"codebook temperatures must be above 0 and finite, got {start:g} and {final:g}")
        self.config, self.ends = config, (math.log(start), math.log(final))
        self.codes = nn.Parameter(torch.randn(config.codes, dim))
        self.log_temperature = nn.Parameter(torch.tensor([self.ends[0]]), requires_grad=config.mode == "learnt")

    @property
    def temperature(self) -> Tensor:
        """Divisor of the scores, `(1,)`."""
        return self.log_temperature.exp()

    @torch.no_grad()
    def set_progress(self, progress: float) -> None:
        """Set a scheduled temperature to its value at this fraction of the training."""
        if self.config.mode == "scheduled":
            start, final = self.ends
            self.log_temperature.fill_(start + (final - start) * min(max(progress, 0.0), 1.0))

    def forward(self, queries: Tokens) -> tuple[Tensor, Tensor]:
        """Weights over the codes, and the normalised weighted sum of the codes.

        Shape:
            queries `(batch, length, dim)` -> `(batch, codes)`, `(batch, dim)`.
        """
        temperature = self.temperature if self.config.mode == "learnt" else self.temperature.detach()
        weights = ground(queries.values, queries.mask, self.codes, temperature, activation=self.config.activation)
        with torch.autocast(weights.device.type, enabled=False):
            mixed = weights @ self.codes.to(weights.dtype)
        return weights, F.normalize(mixed, dim=1, eps=1e-8)


class QueryHead(nn.Module):
    """Query head, from tokens to codebook queries: norm, linear, GELU, norm, linear (Chen et al. 2023).

    Shape:
        `(batch, length, width)` -> `(batch, length, dim)`.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, dim)
        )

    def forward(self, tokens: Tokens) -> Tokens:
        """Compute the queries; padding, NaN included, reaches no weight's gradient."""
        return Tokens(self.layers(tokens.values.masked_fill(~tokens.mask[:, :, None], 0.0)), tokens.mask)
