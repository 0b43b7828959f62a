"""MGCA's prototype alignment as its paper writes it: float64, one sample and one prototype at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.reference.one_to_k import log_softmax
from tests.reference.transport import sinkhorn

Matrix = NDArray[np.float64]


def codes(scores: Matrix, epsilon: float) -> Matrix:
    """Sinkhorn's plan between samples and prototypes of equal masses, its rows made to sum to 1."""
    n, prototypes = scores.shape
    plan, _ = sinkhorn(-scores, epsilon, [1 / n] * n, [1 / prototypes] * prototypes)
    return plan * n


def prototype_loss(scores_a: Matrix, scores_b: Matrix, codes_a: Matrix, codes_b: Matrix, temperature: float) -> float:
    """Each side's codes as the target of the other side's probabilities."""
    forth = [cross_entropy(code, score / temperature) for code, score in zip(codes_b, scores_a, strict=True)]
    back = [cross_entropy(code, score / temperature) for code, score in zip(codes_a, scores_b, strict=True)]
    return (math.fsum(forth) / len(forth) + math.fsum(back) / len(back)) / 2


def cross_entropy(target: Sequence[float], logits: Sequence[float]) -> float:
    return -math.fsum(share * log_softmax(logits, place) for place, share in enumerate(target))
