"""Heads: from an encoder's `Features` to fields of an `Embedding`. Only those that some objective needs are built."""

from mmalign.heads.codebook import Codebook, CodebookConfig
from mmalign.heads.fitted_variance import FittedVariance, FittedVariances
from mmalign.heads.gaussian import GaussianConfig, GaussianHead
from mmalign.heads.headset import HeadSet
from mmalign.heads.projection import ProjectionHead
from mmalign.heads.reducer import TokenReducer
from mmalign.heads.tokens import TokenHead

__all__ = [
    "Codebook",
    "CodebookConfig",
    "FittedVariance",
    "FittedVariances",
    "GaussianConfig",
    "GaussianHead",
    "HeadSet",
    "ProjectionHead",
    "TokenHead",
    "TokenReducer",
]
