"""Prompt embeddings: every sentence of a zero-shot task is encoded once."""

import math
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.embedding.scoring import score_blocks
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.types import Embedding


class PromptEmbeddings:
    """The embeddings of a task's sentences, each distinct sentence encoded once.

    Args:
        model: Encodes the sentences and scores samples against them.
        tower: The tower that reads the sentences.
        texts: All sentences of the task; repeated ones are encoded once.
        score: Another score of the pair's objective; "" = the trained one.
    """

    def __init__(self, model: Aligner, tower: str, texts: Iterable[str], *, score: str = "") -> None:
        distinct = list(dict.fromkeys(texts))
        self.tower = tower
        self._model, self._score = model, score
        self._index = {text: index for index, text in enumerate(distinct)}
        self._embedding = model.encode(tower, distinct)

    def of(self, texts: Sequence[str]) -> Embedding:
        """The embeddings of some of the sentences, `(len(texts), …)`, in their order."""
        return self._embedding[torch.tensor([self._index[text] for text in texts], dtype=torch.long)]

    def scores(self, samples: Embedding, texts: Sequence[str]) -> Tensor:
        """Score of every sample with every single sentence, `(samples, texts)`, on the CPU.

        Raises:
            UserError: a score is NaN or infinite.
        """
        return self._finite(samples, self._scores(samples, self.of(texts)))

    def class_scores(self, samples: Embedding, classes: Sequence[Sequence[str]]) -> Tensor:
        """Score of every sample with every class, `(samples, classes)`, on the CPU.

        Where the similarity reads only vectors, a class is one vector: the mean of its sentences' unit vectors,
        normalised (Radford et al. 2021, section 3.1.4). Otherwise its score is the mean over its sentences' scores.

        Args:
            samples: Embeddings of the other tower.
            classes: The sentences of each class.

        Raises:
            UserError: a score is NaN or infinite.
        """
        flat = self.of([text for texts in classes for text in texts])
        owner = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor([len(texts) for texts in classes]))
        if self._model.scores_vectors_only(samples.tower, self.tower):
            mean = Embedding(mean_direction(flat.vector, owner, len(classes)), tower=self.tower)
            return self._finite(samples, self._scores(samples, mean))
        scores = self._finite(samples, self._scores(samples, flat))
        sums = scores.new_zeros(len(scores), len(classes)).index_add_(1, owner, scores)
        return sums / torch.bincount(owner, minlength=len(classes))

    def least_uncertain(self, groups: Sequence[Sequence[str]], fraction: float) -> list[int]:
        """Indices of the groups of sentences with the lowest mean uncertainty, ascending; at least one.

        Args:
            groups: Sentences that are kept or dropped together, as many in each group.
            fraction: Of the groups to keep, above 0 up to 1.

        Raises:
            UserError: a fraction out of its range, or a model without uncertainties.
        """
        demand_fraction(fraction)
        flat = self.of([text for texts in groups for text in texts]).uncertainty
        order = flat.view(len(groups), -1).mean(dim=1).argsort(stable=True)
        return sorted(order[: math.ceil(fraction * len(groups))].tolist())

    def _scores(self, samples: Embedding, sentences: Embedding) -> Tensor:
        score = partial(self._model.similarity, score=self._score)
        blocks = score_blocks(samples, sentences, score=score, device=self._model.device)
        return torch.cat([block.cpu() for _, block in blocks])

    def _finite(self, samples: Embedding, scores: Tensor) -> Tensor:
        if not bool(torch.isfinite(scores).all()):
            raise UserError(f"{samples.tower} -> {self.tower}: expected finite scores, got NaN or infinity")
        return scores


def demand_fraction(fraction: float) -> None:
    """Check the fraction of prompts to keep.

    Raises:
        UserError: it is not above 0 and up to 1.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"--prompt_fraction: expected a fraction above 0, up to 1, got {fraction}")


def mean_direction(vectors: Tensor, owner: Tensor, count: int) -> Tensor:
    """Normalise, mean over the rows of each owner, normalise.

    Shape:
        vectors `(rows, dim)`, owner `(rows,)` with values below `count` -> `(count, dim)`.

    Example:
        >>> mean_direction(torch.tensor([[9.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), 1)
        tensor([[0.7071, 0.7071]])
    """
    unit = F.normalize(vectors.double(), dim=1)
    sums = unit.new_zeros(count, vectors.shape[1]).index_add_(0, owner, unit)
    return F.normalize(sums, dim=1).to(vectors.dtype)
