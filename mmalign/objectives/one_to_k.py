"""CCRK's one-to-K loss as an objective: several items of tower b, such as captions, for each row of tower a."""

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.objectives.contrastive import cosines, paired_cosines, rows_and_columns
from mmalign.objectives.functional.one_to_k import partial_one_to_k_loss
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.parts.logit_scale import ScaledObjective
from mmalign.types import Embedding, LossOutput


class OneToKObjective(ScaledObjective):
    """One-to-K contrastive loss over the global batch (CCRK, Nie et al. 2024, arXiv 2406.18254).

    All items that `data.draw` puts into the batch for a row of tower a (captions of an image, languages) are positives
    in one softmax. With f and g the row and column halves of `clip` on the same items, and K items each,

        clip = (f + g) / 2,    one_to_k = (f + g/K) / 2        (normalise; K times as much otherwise)

    so it is `clip` with a smaller weight of the direction from b to a. With one item per row the two are equal. The
    loss cannot reach 0: its least value is `log(K) / 2` (normalise), since the positives share one softmax.

    Args:
        initial_scale: Initial factor of the cosines.
        max_scale: Upper bound of the scale, enforced after every step; null = no bound.
        learn_scale: Whether the scale is trained.
        normalise: Whether to divide each row's terms by its number of items K, as published.

    Example:
        >>> import torch
        >>> a, owner = torch.eye(3), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> objective = OneToKObjective(initial_scale=100)
        >>> objective(Embedding(a), Embedding(a[owner]), owner=owner).loss  # log(2) / 2
        tensor(0.3466, grad_fn=...)
    """

    many = True

    def __init__(
        self,
        initial_scale: float = 1 / 0.07,
        max_scale: float | None = 100.0,
        learn_scale: bool = True,
        normalise: bool = True,
    ) -> None:
        super().__init__(initial_scale, max_scale, learn_scale)
        self.normalise = normalise

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """`functional.one_to_k_loss` in tiles: own rows of `a` against all items of `b`, columns merged over processes.

        Terms:
            scale: The factor of the cosines.
            items: Mean number of items per row.
        """
        rows, columns = rows_and_columns(a.vector, b.vector, global_batch)
        scale = self.scale
        loss = partial_one_to_k_loss(
            rows * scale.to(rows.dtype),
            columns,
            rows=global_batch.own,
            columns=global_batch.own_items,
            groups_a=global_batch.groups,
            groups_b=global_batch.item_groups,
            normalise=self.normalise,
            merge=distributed.merge_logsumexp,
        )
        items = torch.full((), len(columns) / max(global_batch.size, 1), device=scale.device)  # no copy to the device
        return LossOutput(loss, {"scale": scale.detach()[0], "items": items.detach()})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`, without the scale."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of row i of `a` with row i of `b`, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, normalise={self.normalise}"
