"""Fitted variance: a log-linear map from a tower's features to one variance per sample, set after training."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.capabilities import LinearFeatures
from mmalign.errors import UserError
from mmalign.types import Embedding, Inputs

MAX_FEATURES = 1024
"""Largest number of linear features that are used; of more, or of sparse ones, the encoder's vector is used instead."""


class FittedVariance(nn.Module):
    r"""Log-variance that is linear in features, equal in every dimension of the shared space.

    .. math:: l_k = w \cdot x + b - \log D

    The sum of the D variances (`Embedding.uncertainty`) is `exp(w . x + b)`: the expected squared distance that was
    fitted. `mmalign.fit_variance` sets w and b; no objective trains them.

    Args:
        features: Number of features.
        dim: Size of the shared space.

    Shape:
        `(batch, features)` -> `(batch, dim)`, in float32 (float64 where the features are).

    Raises:
        UserError: there is no feature.

    Example:
        >>> head = FittedVariance(3, 2)
        >>> head(torch.ones(1, 3)).exp().sum(1)  # not yet fitted
        tensor([1.])
    """

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        if features < 1:
            raise UserError(f"variances: expected at least one feature, got {features}")
        self.dim = dim
        self.weight = nn.Parameter(torch.zeros(features), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the log-variances; no gradient reaches the features."""
        dtype = torch.promote_types(features.dtype, self.weight.dtype)
        with torch.autocast(features.device.type, enabled=False):
            total = features.detach().to(dtype) @ self.weight.to(dtype) + self.bias.to(dtype)
        return (total - math.log(self.dim))[:, None].expand(-1, self.dim)


def variance_features(encoder: nn.Module, inputs: Inputs, vector: Tensor) -> Tensor:
    """The features of a fitted variance: those of the encoder's linear layer where it has some, else its vector.

    A vector that was trained to match keeps little of what disturbs a sample; the inputs of a linear encoder have it.

    Args:
        encoder: The encoder.
        inputs: Its collated inputs.
        vector: Its vectors, `(batch, width)`.

    Returns:
        `(batch, features)`, dense.
    """
    if isinstance(encoder, LinearFeatures):
        features = encoder.linear_features(inputs)
        if features.layout is torch.strided and features.shape[1] <= MAX_FEATURES:
            return features
    return vector


class FittedVariances(nn.ModuleDict):
    """The fitted variances of a model's towers; empty until `mmalign.fit_variance` sets one.

    Args:
        features: Tower -> number of features; None = no tower.
        dim: Size of the shared space.
        needs: Tower -> fields of its embedding that objectives read.

    Raises:
        UserError: there is no such tower, or objectives train its variances.
    """

    def __init__(self, features: Mapping[str, int] | None, dim: int, needs: Mapping[str, frozenset[str]]) -> None:
        super().__init__()
        self.dim, self._needs = dim, dict(needs)
        for tower, number in (features or {}).items():
            self.check(tower)
            self[tower] = FittedVariance(number, dim)

    def check(self, tower: str) -> None:
        """Raise a `UserError` for an unknown tower, and for one whose scores read variances: they would change."""
        if tower not in self._needs:
            raise UserError(f"variances: no tower called {tower!r}; known: {', '.join(self._needs)}")
        if "log_variance" in self._needs[tower]:
            raise UserError(
                f"variances: an objective of the tower {tower!r} trains its variances and scores by them; expected a "
                "tower whose objectives read vectors, tokens or codes, such as clip"
            )

    def add(self, embedding: Embedding, encoder: nn.Module, inputs: Inputs, vector: Tensor) -> Embedding:
        """The embedding with its tower's fitted variance, if there is one.

        Args:
            embedding: Of one tower.
            encoder: The tower's encoder.
            inputs: Its collated inputs.
            vector: The encoder's vectors, `(batch, width)`.
        """
        if embedding.tower not in self:
            return embedding
        log_variance = self[embedding.tower](variance_features(encoder, inputs, vector))
        return replace(embedding, log_variance=log_variance.to(embedding.vector.dtype))

    def add_empty(self, embedding: Embedding) -> Embedding:
        """As `add`, for an embedding without rows."""
        if embedding.tower not in self:
            return embedding
        return replace(embedding, log_variance=embedding.vector.new_zeros(0, self.dim))

    def config(self) -> dict[str, Any]:
        """The key `variances` of a model's description; nothing where there is no fitted variance."""
        widths = {tower: len(variance.get_parameter("weight")) for tower, variance in self.items()}
        return {"variances": widths} if widths else {}
