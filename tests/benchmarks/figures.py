"""Quality and intervals, the same few lines for every program, and the table they end up in. NumPy alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One seed's result: for each score the outcome of every query, and which queries stand or fall together.

    Args:
        outcomes: Score -> one number a query, `(queries,)`; the score is their mean.
        clusters: One integer a query, `(queries,)`: drawn together by the bootstrap.
    """

    outcomes: dict[str, Floats]
    clusters: NDArray[np.int64]

    def mean(self, name: str) -> float:
        """The score itself."""
        return float(self.outcomes[name].mean())


def zero_shot(pictures: Floats, classes: Floats, truth: NDArray[np.int64]) -> Scores:
    """Top-1 by cosine; a tie counts as wrong. Rows are unit vectors: `(n, dim)`, `(classes, dim)`, `(n,)`."""
    return Scores({"top1": (_ranks(pictures @ classes.T, truth) == 0).astype(float)}, np.arange(len(pictures)))


def retrieval(pictures: Floats, captions: Floats, groups: Sequence[str]) -> Scores:
    """hit@10 both ways, row i answering to row i, and the mean reciprocal rank; a tie counts against."""
    similarity, diagonal = pictures @ captions.T, np.arange(len(pictures))
    forth, back = _ranks(similarity, diagonal), _ranks(similarity.T, diagonal)
    found, named = (forth < 10).astype(float), (back < 10).astype(float)
    outcomes = {
        "hit@10": (found + named) / 2,
        "image_to_text hit@10": found,
        "text_to_image hit@10": named,
        "mrr": (1 / (1 + forth) + 1 / (1 + back)) / 2,
    }
    _, clusters = np.unique(np.asarray(groups), return_inverse=True)
    return Scores(outcomes, clusters)


def _ranks(similarity: Floats, truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """0-based rank of the right column of each row; columns of equal similarity stand before it."""
    right = similarity[np.arange(len(similarity)), truth][:, None]
    return np.asarray((similarity >= right).sum(axis=1) - 1)


def interval(seeds: Sequence[Scores], name: str, *, draws: int = 4000) -> tuple[float, float]:
    """95 % of the mean over seeds: seeds and held-out items are both drawn with replacement."""
    low, high = np.percentile(_bootstrap([seeds], name, draws), [2.5, 97.5])
    return float(low), float(high)


def difference(ours: Sequence[Scores], theirs: Sequence[Scores], name: str) -> tuple[float, float, float]:
    """Mean of ours minus theirs and its 95 % interval: the same drawn items for both, seeds drawn for each apart."""
    low, high = np.percentile(_bootstrap([ours, theirs], name, 4000), [2.5, 97.5])
    mean = np.mean([one.mean(name) for one in ours]) - np.mean([one.mean(name) for one in theirs])
    return float(mean), float(low), float(high)


def _bootstrap(sides: Sequence[Sequence[Scores]], name: str, draws: int) -> Floats:
    rng = np.random.default_rng(0)
    clusters = sides[0][0].clusters
    count = int(clusters.max()) + 1
    size = np.bincount(clusters, minlength=count).astype(float)
    sums = [
        np.stack([np.bincount(one.clusters, weights=one.outcomes[name], minlength=count) for one in side])
        for side in sides
    ]
    means = np.empty(draws)
    for draw in range(draws):
        weight = np.bincount(rng.integers(0, count, count), minlength=count)
        picked = [side[rng.integers(0, len(side), len(side))].mean(axis=0) @ weight / (size @ weight) for side in sums]
        means[draw] = picked[0] - (picked[1] if len(picked) > 1 else 0.0)
    return means


def rate(ends: Sequence[float], *, steps: int, batch_size: int) -> float:
    """Training samples a second: a batch over the median epoch's mean step; the first step (warm-up) is left out.

    Args:
        ends: When each optimiser step ended, in seconds.
        steps: Steps an epoch. An epoch lasts from the end of the epoch before to its own, so that it holds what a
            program does between epochs; of the first epoch only the steps after the first one count.
        batch_size: Samples a step.
    """
    if len(ends) < 2 or len(ends) % steps:
        raise ValueError(f"expected a multiple of {steps} steps and at least two, got {len(ends)}")
    epochs = [
        (ends[at + steps - 1] - ends[max(at - 1, 0)]) / (steps if at else steps - 1)
        for at in range(0, len(ends), steps)
    ]
    return batch_size / float(np.median(epochs))


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
