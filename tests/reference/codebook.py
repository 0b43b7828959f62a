"""Sparsemax and FDT's grounding as their papers write them: float64, one number at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def sparsemax(x: Sequence[float]) -> list[float]:
    """Algorithm 1 of arXiv 1602.02068; entries of -inf are not there."""
    present = sorted((value for value in x if value > -math.inf), reverse=True)
    if not present:
        return [0.0] * len(x)
    size = max(k for k in range(1, len(present) + 1) if 1 + k * present[k - 1] > math.fsum(present[:k]))
    threshold = (math.fsum(present[:size]) - 1) / size
    return [max(value - threshold, 0.0) for value in x]


def sparsemax_product(x: Sequence[float], direction: Sequence[float]) -> list[float]:
    """Equation 12 of arXiv 1602.02068: Jacobian times vector."""
    support = [k for k, value in enumerate(sparsemax(x)) if value > 0]
    mean = math.fsum(direction[k] for k in support) / max(len(support), 1)
    return [direction[k] - mean if k in support else 0.0 for k in range(len(x))]


def pooled_scores(tokens: Matrix, mask: NDArray[np.bool_], codebook: Matrix, temperature: float) -> list[list[float]]:
    """For each sample and code, the best score of a real token."""
    divisor = math.sqrt(codebook.shape[1]) * temperature
    return [
        [
            max(
                (math.fsum(q * code) / divisor for q, real in zip(sample, reals, strict=True) if real),
                default=-math.inf,
            )
            for code in codebook
        ]
        for sample, reals in zip(tokens, mask, strict=True)
    ]


def ground(
    tokens: Matrix, mask: NDArray[np.bool_], codebook: Matrix, temperature: float, activation: str
) -> list[list[float]]:
    """Weights of the codes; zeros for a sample without a token."""
    rows = pooled_scores(tokens, mask, codebook, temperature)
    return [sparsemax(row) if activation == "sparsemax" else _softmax(row) for row in rows]


def _softmax(x: Sequence[float]) -> list[float]:
    if max(x) == -math.inf:
        return [0.0] * len(x)
    powers = [math.exp(value - max(x)) for value in x]
    return [power / math.fsum(powers) for power in powers]
