"""The contract of an objective: a loss of own rows against all rows, and the similarity that it trains."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.types import Embedding, Guide, LossOutput, Mixed

MANY = "one_to_k, clip, siglip"
"""The registered objectives that take several items per row, for messages."""

SQUARE = 8
"""Rows in a block of `Objective.similarity_pairwise`: small blocks waste little, large ones need few calls."""


class Objective(nn.Module):
    """A loss between the rows of two towers, and the similarity that this loss trains.

    A subclass defines `similarity` and `loss`. `loss` receives the rows of this process and, lazily, those of all
    processes, and returns one loss for each own row:

        loss of the step = sum over all processes' rows of loss_i / number of all rows

    The base gathers, divides, and multiplies by the number of processes, so that the mean over processes (which DDP
    takes of gradients) is exact. A loss that is no mean over rows, or is computed in tiles, overrides `partial_loss`.

    Attributes:
        needs: Fields of `Embedding` that it reads, among vector, log_variance, tokens, parts, codes, reconstructed,
            decoded. The model builds only the heads that some objective needs. Set it per instance where arguments
            decide.
        scores: Names of further scores that `similarity` computes besides the trained one.
        mask_ratio: Fraction of the towers' tokens that is masked in training (masked pretraining).
        mixes: Whether it accepts rows of tower a that were mixed from two samples (`GlobalBatch.mixed`).
        guided: Whether it leaves out the false negatives that a guide finds (`GlobalBatch.false_negatives`).
        two_views: Whether, between a tower and itself, it learns from the difference of two views of a sample.
        many: Whether it accepts several items of tower b for a row of tower a (`data.draw`, `GlobalBatch.owner`).

    Example:
        >>> class Distance(Objective):
        ...     def loss(self, a, b, global_batch):
        ...         return (a.vector - b.vector).square().sum(1)
        ...
        ...     def similarity(self, a, b, score=""):
        ...         return -torch.cdist(a.vector, b.vector)
        >>> Distance()(Embedding(torch.eye(2)), Embedding(torch.eye(2).flip(0))).loss
        tensor(2.)
    """

    needs: frozenset[str] = frozenset({"vector"})
    scores: tuple[str, ...] = ()
    mask_ratio: float = 0.0
    mixes: bool = False
    guided: bool = False
    many: bool = False
    two_views: bool = True

    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> Tensor | LossOutput:
        """The loss of each own row; to be defined.

        Args:
            a: Own rows of tower a.
            b: Own rows of tower b; row i belongs to row i of `a`.
            global_batch: Rows of all processes: `global_batch.a.vector`, `.b.tokens`, `.groups`, `.own_indices`, ...

        Returns:
            `(own rows,)`, not reduced; or a `LossOutput` of it, to log terms.
        """
        raise TypeError(f"{type(self).__name__} must define loss(a, b, global_batch) -> Tensor")

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """Part of the loss that this process contributes; the parts of all processes sum to that of the global batch.

        By default the mean of `loss` over all rows. Override it instead of `loss` where the loss is divided by
        something else than the number of rows, or is computed in tiles without a loss per row.

        Returns:
            A scalar loss. A term is a scalar, equal on all processes, or `(own rows,)`, and then the mean over all rows
            is logged.

        Raises:
            UserError: `loss` returned something else than one number for each own row.
        """
        output = self.loss(a, b, global_batch)
        output = output if isinstance(output, LossOutput) else LossOutput(output)
        if output.loss.shape != (len(a),):
            raise UserError(
                f"{type(self).__name__}.loss: expected one loss for each of {len(a)} own rows, got shape "
                f"{tuple(output.loss.shape)}; do not reduce, the base class takes the mean over all processes"
            )
        return LossOutput(global_batch.mean(output.loss), output.terms)

    def forward(
        self,
        a: Embedding,
        b: Embedding,
        groups: Tensor | None = None,
        mixed: Mixed | None = None,
        guide: Guide | None = None,
        owner: Tensor | None = None,
    ) -> LossOutput:
        """The loss of the global batch, as the mean over processes.

        Args:
            a: Own rows of tower a.
            b: Own rows of tower b; row i belongs to row i of `a`.
            groups: `(own rows,)` integers; equal groups are positives of each other. Default: each row is a group.
            mixed: Own rows of tower a that were mixed from two samples; only if `mixes`.
            guide: What a frozen guide knows of the own rows; only if `guided`.
            owner: The own row of `a` that each row of `b` belongs to, ascending `(own items,)`; only if `many`.

        Returns:
            A scalar loss, of which value and every gradient, averaged over processes, equal those of one process on the
            whole batch; and detached scalars to log.

        Raises:
            UserError: the towers differ in their number of rows; `mixed`, `guide` or `owner` came and the objective
                does not use it; or both of the last two.
        """
        if mixed is not None and not self.mixes:
            raise UserError(f"{type(self).__name__} does not accept mixed rows; drop mixup or take pcmepp")
        if guide is not None and not self.guided:
            raise UserError(f"{type(self).__name__} has no negatives that a guide could leave out; take clip or siglip")
        if owner is not None and not self.many:
            raise UserError(f"{type(self).__name__} takes one item per row; objectives that take several: {MANY}")
        if owner is not None and guide is not None:
            raise UserError("a guide compares one item per row; drop model.guide, or --data.draw")
        global_batch = GlobalBatch(a, b, groups, mixed, guide, owner)
        output = self.partial_loss(a, b, global_batch)
        processes = distributed.world_size()
        terms = {name: (global_batch.mean(t) * processes if t.ndim else t) for name, t in output.terms.items()}
        return LossOutput(output.loss * processes, terms)

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Similarity of every row of `a` with every row of `b`; to be defined.

        The similarity of two rows must not depend on other rows.

        Args:
            a: `n` rows of tower a.
            b: `m` rows of tower b.
            score: One of `scores`; "" = the trained similarity.

        Returns:
            `(n, m)`, higher = more similar.
        """
        raise TypeError(f"{type(self).__name__} must define similarity(a, b) -> Tensor")

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """Token correspondence of one pair of samples; optional.

        Args:
            a: One row of tower a.
            b: One row of tower b.

        Returns:
            `(tokens_a, tokens_b)`, non-negative, 0 at padding; rows and columns are tokens, or parts where the
            objective reads parts of that tower.

        Raises:
            UserError: the objective compares whole samples.
        """
        raise UserError(
            f"{type(self).__name__} compares whole samples and has no token correspondence; "
            "objectives that have one: transport, late_interaction, token_mean, fdt, local"
        )

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Similarity of row i of `a` with row i of `b`, the diagonal of `similarity`.

        Computes the diagonal blocks of the similarity matrix; override it where that wastes too much.

        Args:
            a: `n` rows of tower a.
            b: `n` rows of tower b.
            score: One of `scores`; "" = the trained similarity.

        Returns:
            `(n,)`.
        """
        named = [score] if score else []  # an objective without further scores need not have the argument
        diagonals = []
        for start in range(0, len(a), SQUARE):
            rows = slice(start, start + SQUARE)
            diagonals.append(self.similarity(a[rows], b[rows], *named).diagonal())
        return torch.cat(diagonals) if diagonals else self.similarity(a, b, *named).flatten()

    def tower_needs(self, tower: Literal["a", "b"]) -> frozenset[str]:
        """Fields that it reads of tower a or of tower b, where they differ."""
        return self.needs

    def set_progress(self, progress: float) -> None:
        """Receive the fraction of the training that is done, before each training step; does nothing by default."""

    def after_step(self) -> None:
        """Put learnt constants back into their range; called after every optimiser step."""
