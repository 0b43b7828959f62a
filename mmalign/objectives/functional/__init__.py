"""Equations alone, in the papers' notation: no state, no communication, float32 inside under autocast."""

from mmalign.objectives.functional.codebook import CodeStatistics, code_statistics, ground, sparsemax
from mmalign.objectives.functional.contrastive import clip_loss, siglip_loss
from mmalign.objectives.functional.late_interaction import late_interaction
from mmalign.objectives.functional.probabilistic import (
    closed_form_sampled_distance,
    inclusion_loss,
    inclusion_score,
    information_bottleneck,
    pcmepp_loss,
    prolip_loss,
)
from mmalign.objectives.functional.transport import sinkhorn

__all__ = [
    "CodeStatistics",
    "clip_loss",
    "closed_form_sampled_distance",
    "code_statistics",
    "ground",
    "inclusion_loss",
    "inclusion_score",
    "information_bottleneck",
    "late_interaction",
    "pcmepp_loss",
    "prolip_loss",
    "siglip_loss",
    "sinkhorn",
    "sparsemax",
]
