"""FDT's finite discrete tokens: one codebook for all towers, and what each tower asks of it."""

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
"""Temperature over number of codes at which three codes in ten begin with weight, see `CodebookConfig`."""


@dataclass
class CodebookConfig:
    """The codes that all towers share, built where an objective needs them (fdt).

    Sparsemax gives no gradient to a code without weight, so the temperature must let enough codes in at first. The
    share of codes with weight follows temperature / codes: at 0.08 a fresh model gives weight to about three codes in
    ten (measured: 26 to 36 in 100, for samples of 5 to 50 tokens). Published: 1000 for 16,384 codes, 0.06.

    Args:
        codes: How many; the published number is 16,384, for millions of pairs.
        temperature: Divides the scores; null = 0.08 times the number of codes.
        mode: fixed, learnt, or scheduled: geometrically down to `final_temperature` over the training.
        final_temperature: Where the schedule ends; null = a tenth of the start.
        activation: sparsemax or softmax.
    """

    codes: int = 1024
    temperature: float | None = None
    mode: Literal["fixed", "learnt", "scheduled"] = "fixed"
    final_temperature: float | None = None
    activation: Literal["sparsemax", "softmax"] = "sparsemax"


class Codebook(nn.Module):
    """The codes and their temperature; both always part of the weights.

    Args:
        dim: Size of a code.
        config: See `CodebookConfig`.

    Example:
        >>> book = Codebook(8, CodebookConfig(codes=100))
        >>> book.temperature
        tensor([8.])
    """

    no_decay = ("codes",)  # a decay would pull codes that nobody uses to zero, where every score is equal

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
        """What divides the scores, `(1,)`."""
        return self.log_temperature.exp()

    @torch.no_grad()
    def set_progress(self, progress: float) -> None:
        """Move a scheduled temperature to where it is after this share of the training."""
        if self.config.mode == "scheduled":
            start, final = self.ends
            self.log_temperature.fill_(start + (final - start) * min(max(progress, 0.0), 1.0))

    def forward(self, queries: Tokens) -> tuple[Tensor, Tensor]:
        """Weights over the codes, and the unit vector that they make of them.

        Shape:
            queries `(batch, length, dim)` -> `(batch, codes)`, `(batch, dim)`.
        """
        temperature = self.temperature if self.config.mode == "learnt" else self.temperature.detach()
        weights = ground(queries.values, queries.mask, self.codes, temperature, activation=self.config.activation)
        with torch.autocast(weights.device.type, enabled=False):
            mixed = weights @ self.codes.to(weights.dtype)
        return weights, F.normalize(mixed, dim=1, eps=1e-8)


class QueryHead(nn.Module):
    """What each token of a tower asks the codebook: norm, linear, GELU, norm, linear (Chen et al. 2023).

    Shape:
        `(batch, length, width)` -> `(batch, length, dim)`.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, dim)
        )

    def forward(self, tokens: Tokens) -> Tokens:
        """Ask; whatever a pad holds, NaN too, reaches no weight's gradient."""
        return Tokens(self.layers(tokens.values.masked_fill(~tokens.mask[:, :, None], 0.0)), tokens.mask)
