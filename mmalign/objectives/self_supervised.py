"""Self-supervised objectives for one tower; no pairs needed."""

import math

import torch
from torch import Tensor, nn

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.contrastive import cosines, paired_cosines
from mmalign.objectives.functional.self_supervised import feature_std, variance_hinge, view_rows
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, LossOutput


class _Cosine(Objective):
    """Similarity is the cosine of the vectors."""

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of row i of `a` with row i of `b`, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)


class ViewsObjective(_Cosine):
    """Two views of a sample predict each other through a small predictor; a variance hinge prevents collapse.

        loss = mean over rows of view_rows + variance * mean over both views of variance_hinge    (of `functional`)

    A pair of a tower with itself, `{a: ecg, b: ecg, objective: views}`, gives two views in training, which differ by
    dropout and masking; at inference there is one view. The predictor has a bottleneck (SimSiam, arXiv 2011.10566) and
    layer norm instead of batch norm, so that the loss does not depend on the number of processes; the hinge replaces
    batch norm's protection against collapse.

    Args:
        dim: Size of the shared space; given by the model.
        hidden: Size of the predictor's bottleneck; null = half of `dim`.
        variance: Weight of the hinge.

    Example:
        >>> import torch
        >>> embedding = Embedding(torch.nn.functional.normalize(torch.randn(8, 16), dim=1))
        >>> sorted(ViewsObjective(16)(embedding, embedding).terms)
        ['feature_std', 'prediction_cosine']
    """

    def __init__(self, dim: int, hidden: int | None = None, variance: float = 1.0) -> None:
        super().__init__()
        narrow = hidden if hidden is not None else max(1, dim // 2)
        if narrow < 1 or not 0 <= variance < math.inf:
            raise UserError(f"views: expected hidden >= 1 and variance >= 0, got {narrow} and {variance}")
        self.variance = variance
        self.predictor = nn.Sequential(
            nn.Linear(dim, narrow, bias=False), nn.LayerNorm(narrow), nn.ReLU(), nn.Linear(narrow, dim)
        )

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """The mean prediction loss of own rows, and a part of the variance hinge of all rows.

        Terms:
            prediction_cosine: Mean cosine of the predicted and the actual vectors.
            feature_std: Mean of `functional.feature_std` of the first views; below 0.5 the vectors are collapsing.
        """
        with torch.autocast(a.vector.device.type, enabled=False):  # the predictor is part of the loss: float32
            dtype = next(self.predictor.parameters()).dtype
            predicted = [self.predictor(view.vector.to(dtype)) for view in (a, b)]
        losses = view_rows(a.vector, b.vector, *predicted)
        # A standard deviation is no sum over rows: each process computes that of all rows and returns its part.
        first, second = global_batch.a.vector, global_batch.b.vector
        hinge = (variance_hinge(first) + variance_hinge(second)) / 2 / distributed.world_size()
        terms = {"prediction_cosine": -losses.detach(), "feature_std": feature_std(first.detach()).mean()}
        return LossOutput(global_batch.mean(losses) + self.variance * hinge, terms)

    def extra_repr(self) -> str:
        return f"variance={self.variance}"
