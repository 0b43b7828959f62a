"""Maps of a space: the plane holds what two dimensions can hold; wrong panels are refused."""

import numpy as np
import pytest

from mmalign.errors import UserError
from mmalign.pictures import space_maps
from mmalign.pictures.spaces import plane


def test_points_of_a_plane_keep_their_distances() -> None:
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((30, 2)) @ np.linalg.qr(rng.standard_normal((7, 2)))[0].T + 3
    a, b = plane(flat[:12], flat[12:])
    drawn = np.concatenate([a, b])
    for one, other in ((0, 5), (3, 20), (14, 29)):
        assert np.linalg.norm(drawn[one] - drawn[other]) == pytest.approx(np.linalg.norm(flat[one] - flat[other]))


def test_a_panel_has_both_towers_and_a_line_for_each_of_the_first_pairs() -> None:
    rows = np.random.default_rng(1).standard_normal((70, 4))
    figure = space_maps({"as trained": {"left": rows, "right": -rows}}, title="A title")
    (axes,) = figure.axes
    assert len(axes.lines) == 50
    assert [len(points.get_offsets()) for points in axes.collections] == [70, 70]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["left", "right"]


def test_wrong_panels_are_refused() -> None:
    with pytest.raises(UserError, match="at least one space"):
        space_maps({})
    with pytest.raises(UserError, match=r"expected two towers of equal shape"):
        space_maps({"x": {"left": np.zeros((3, 4)), "right": np.zeros((2, 4))}})
