"""Bags, divergences and relations from their definitions: float64, one number at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.reference.one_to_k import log_softmax

Matrix = NDArray[np.float64]


def bag_gaussian(members: Matrix, floor: float) -> tuple[list[float], list[float]]:
    """Mean and log of the unbiased variance plus the floor of the real members of one bag, `(members, dim)`."""
    means, log_variances = [], []
    for values in members.T.tolist():
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) if len(values) > 1 else 0.0
        means.append(mean)
        log_variances.append(math.log(variance + math.exp(floor)))
    return means, log_variances


def gaussian_kl(
    mean_p: Sequence[float], log_variance_p: Sequence[float], mean_q: Sequence[float], log_variance_q: Sequence[float]
) -> float:
    """KL(p || q) of one row, the mean over its dimensions."""
    terms = [
        0.5 * (math.log(math.exp(l_q) / math.exp(l_p)) + (math.exp(l_p) + (m_p - m_q) ** 2) / math.exp(l_q) - 1)
        for m_p, l_p, m_q, l_q in zip(mean_p, log_variance_p, mean_q, log_variance_q, strict=True)
    ]
    return math.fsum(terms) / len(terms)


def relation_loss(a: Matrix, b: Matrix, temperature: float) -> float:
    """Cross-entropy of the student's softmax over the other rows to the teacher's."""
    total = []
    for i in range(len(a)):
        others = [j for j in range(len(a)) if j != i]
        student = [math.fsum(a[i] * a[j]) / temperature for j in others]
        teacher = [math.fsum(b[i] * b[j]) / temperature for j in others]
        total += [-math.exp(log_softmax(teacher, place)) * log_softmax(student, place) for place in range(len(others))]
    return math.fsum(total) / len(a)
