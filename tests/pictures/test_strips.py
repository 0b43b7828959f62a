"""Strips: every value is a dot of its row, the mean is a bar, chance a line."""

import numpy as np
import pytest

from mmalign.errors import UserError
from mmalign.pictures import strips


def test_every_value_and_the_mean_are_drawn() -> None:
    axes = strips({"a": [0.5, 0.7, 0.9], "b": [0.2]}, xlabel="accuracy", chance=0.25, title="t").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    drawn = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert [drawn[0], drawn[2], drawn[4]] == [[0.5, 0.7, 0.9], [0.2], [0.25, 0.25]]
    np.testing.assert_allclose(drawn[1], 0.7)
    heights = np.asarray(axes.lines[0].get_ydata())
    assert len(set(heights)) == 3  # equal values would stay apart
    assert abs(heights).max() < 0.5


def test_results_without_curves_cannot_be_drawn() -> None:
    for rows in ({}, {"a": []}):
        with pytest.raises(UserError, match="expected at least one row"):
            strips(rows, xlabel="x")
