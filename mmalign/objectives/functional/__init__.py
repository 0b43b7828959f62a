"""The losses as pure functions, in the papers' notation: stateless, one process, float32 under autocast."""

from mmalign.objectives.functional.code_statistics import CodeStatistics, code_statistics
from mmalign.objectives.functional.computing.similarity_cross_entropy import similarity_cross_entropy
from mmalign.objectives.functional.contrastive import clip_loss, siglip_loss
from mmalign.objectives.functional.distillation import bag_gaussian, gaussian_kl, relation_loss
from mmalign.objectives.functional.false_negatives import FalseNegatives
from mmalign.objectives.functional.gaussians import (
    closed_form_sampled_distance,
    inclusion_loss,
    inclusion_score,
    information_bottleneck,
)
from mmalign.objectives.functional.late_interaction import late_interaction
from mmalign.objectives.functional.local_alignment import clip_quantiles, local_alignment_loss
from mmalign.objectives.functional.nested_sizes import truncate_vectors
from mmalign.objectives.functional.one_to_k import one_to_k_loss
from mmalign.objectives.functional.probabilistic import pcmepp_loss, prolip_loss
from mmalign.objectives.functional.prototypes import prototype_codes, prototype_loss
from mmalign.objectives.functional.sparse_codebook import ground, sparsemax
from mmalign.objectives.functional.transport.partial import partial_sinkhorn
from mmalign.objectives.functional.transport.sinkhorn import sinkhorn

__all__ = [
    "CodeStatistics",
    "FalseNegatives",
    "bag_gaussian",
    "clip_loss",
    "clip_quantiles",
    "closed_form_sampled_distance",
    "code_statistics",
    "gaussian_kl",
    "ground",
    "inclusion_loss",
    "inclusion_score",
    "information_bottleneck",
    "late_interaction",
    "local_alignment_loss",
    "one_to_k_loss",
    "partial_sinkhorn",
    "pcmepp_loss",
    "prolip_loss",
    "prototype_codes",
    "prototype_loss",
    "relation_loss",
    "siglip_loss",
    "similarity_cross_entropy",
    "sinkhorn",
    "sparsemax",
    "truncate_vectors",
]
