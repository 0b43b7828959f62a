"""Ladders: one panel per metric, one curve per perturbation from level 0."""

import pytest

from mmalign.errors import UserError
from mmalign.pictures import ladders


def test_panels_and_curves() -> None:
    figure = ladders(
        {"hit@1": {"noise": [0.9, 0.5, 0.1], "blur": [0.9, 0.8]}, "top1": {"noise": [1.0, 0.4]}}, title="t"
    )
    assert [axes.get_ylabel() for axes in figure.axes] == ["hit@1", "top1"]
    drawn = {str(line.get_label()): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert drawn == {"noise": [0.9, 0.5, 0.1], "blur": [0.9, 0.8]}
    assert list(figure.axes[0].lines[0].get_xdata()) == [0, 1, 2]


def test_results_without_curves_cannot_be_drawn() -> None:
    for curves in ({}, {"hit@1": {}}):
        with pytest.raises(UserError, match="expected at least one metric"):
            ladders(curves)
