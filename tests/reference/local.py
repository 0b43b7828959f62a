"""MGCA's token-wise alignment as its paper writes it: float64, one sample and one token at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.reference.one_to_k import log_softmax

Matrix = NDArray[np.float64]


def sample_loss(
    a: Matrix,
    b: Matrix,
    attention_temperature: float,
    temperature: float,
    weights_a: Sequence[float],
    weights_b: Sequence[float],
) -> float:
    """The real tokens of one sample, `(tokens, dim)`, each side with at least one; weights that sum to 1."""
    a, b = unit(a), unit(b)
    return side(a, b, attention_temperature, temperature, weights_a) + side(
        b, a, attention_temperature, temperature, weights_b
    )


def side(
    own: Matrix, other: Matrix, attention_temperature: float, temperature: float, weights: Sequence[float]
) -> float:
    """Each token against what it saw and what the others saw, and each sight against the tokens."""
    seen = unit(np.array([attend(token, other, attention_temperature) for token in own]))
    scores = [[math.fsum(token * sight) / temperature for sight in seen] for token in own]
    total = 0.0
    for t, weight in enumerate(weights):
        by_token = log_softmax(scores[t], t)
        by_sight = log_softmax([row[t] for row in scores], t)
        total -= weight * (by_token + by_sight) / 2
    return total


def attend(token: Matrix, others: Matrix, temperature: float) -> Matrix:
    powers = [math.exp(math.fsum(token * other) / temperature) for other in others]
    return np.sum([power * other for power, other in zip(powers, others, strict=True)], axis=0) / math.fsum(powers)


def unit(vectors: Matrix) -> Matrix:
    return np.array([vector / math.sqrt(math.fsum(vector * vector)) for vector in vectors])
