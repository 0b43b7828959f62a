"""Figures of comparisons and reports: forest plots, maps by class, usage of codes."""

import numpy as np
import pytest

from mmalign.errors import UserError
from mmalign.pictures.code_usage import code_usage
from mmalign.pictures.forest import ForestRow, forest
from mmalign.pictures.label_map import MOST_LABELS, label_map
from tests.pictures.test_pictures import assert_readable


@pytest.mark.parametrize("count", [1, 6, 40])
def test_forest_shows_significance_by_form(count: int) -> None:
    rows = [ForestRow(f"left → right hit@{k}", 0.1 * (-1) ** k, [0.0, 0.2], k % 2 == 0) for k in range(count)]
    figure = forest(rows, xlabel="difference: b minus a", title="retrieval")
    assert_readable(figure)
    axes = figure.axes[0]
    markers = [line for line in axes.lines if line.get_marker() in ("D", "o")]
    assert [line.get_marker() for line in markers] == ["D" if k % 2 == 0 else "o" for k in range(count)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is the upper one
    with pytest.raises(UserError, match="1 to 200 differences to draw, got 0"):
        forest([], xlabel="")


def test_maps_give_each_class_one_colour_and_marker() -> None:
    names = [f"class {k}" for k in range(MOST_LABELS)]
    labels = names * 3 + [""]
    points = np.random.default_rng(0).standard_normal((len(labels), 2))
    figure = label_map({"left": points, "right": points[::-1]}, {"left": labels, "right": labels[::-1]}, title="map")
    left, right = figure.axes
    looks = []
    for axes in (left, right):
        drawn = [one for one in axes.collections if one.get_label() in names]
        looks.append([(tuple(one.get_facecolor()[0]), one.get_paths()[0].vertices.tobytes()) for one in drawn])
        assert all(len(one.get_offsets()) == 3 for one in drawn)
    assert looks[0] == looks[1]
    assert len(set(looks[0])) == MOST_LABELS
    with pytest.raises(UserError, match="at most 14 classes per point, got 15"):
        label_map({"a": np.zeros((15, 2))}, {"a": [str(k) for k in range(15)]})


def test_usage_is_drawn_in_descending_order() -> None:
    figure = code_usage({"left": np.array([0.1, 0.9, 0.0]), "right": np.array([0.2, 0.2, 1.0])})
    left, right = figure.axes[0].lines
    assert left.get_ydata().tolist() == [0.9, 0.1, 0.0]
    assert right.get_ydata().tolist() == [1.0, 0.2, 0.2]
    assert left.get_linestyle() != right.get_linestyle()
    assert_readable(figure)
