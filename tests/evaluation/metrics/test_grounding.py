"""Pointing and ranking of weights against a region, by hand."""

import math

import numpy as np

from mmalign.evaluation.metrics.grounding import mean_of, pointing, ranking


def test_ties_are_shared_and_words_without_weight_miss() -> None:
    inside = np.array([True, False, False, True])
    assert pointing(np.array([0.1, 0.3, 0.0, 0.2]), inside) == 0
    assert pointing(np.array([0.3, 0.1, 0.3, 0.3]), inside) == 2 / 3
    assert pointing(np.zeros(4), inside) == 0
    assert ranking(np.zeros(4), inside) == 0.5
    assert ranking(np.array([0.3, 0.1, 0.3, 0.0]), inside) == (1 + 0.5 + 0 + 0) / 4


def test_means_of_none_are_undefined() -> None:
    assert mean_of([(1.0, 0.5), (0.0, 1.0)]) == (0.5, 0.75)
    assert all(math.isnan(value) for value in mean_of([]))
