"""The ball query equals a loop over the points in order, in blocks and with masks."""

import pytest
import torch

from modalities.pointcloud.geometry import ball, ball_query


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_equals_a_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ball, "BLOCK_VALUES", block)
    generator = torch.Generator().manual_seed(0)
    points, queries = torch.rand(2, 40, 3, generator=generator), torch.rand(2, 7, 3, generator=generator)
    mask = torch.arange(40) < torch.tensor([40, 23])[:, None]
    found = ball_query(points, queries, 5, 0.4, mask=mask)
    for row in range(2):
        for column in range(7):
            distance = (points[row] - queries[row, column]).norm(dim=1)
            inside = [index for index in range(40) if mask[row, index] and distance[index] <= 0.4][:5]
            assert found.indices[row, column, : len(inside)].tolist() == inside
            assert found.mask[row, column].tolist() == [True] * len(inside) + [False] * (5 - len(inside))
            assert set(found.indices[row, column, len(inside) :].tolist()) <= {inside[0] if inside else 0}


def test_more_neighbours_than_points() -> None:
    found = ball_query(torch.zeros(1, 2, 3), torch.zeros(1, 1, 3), 4, 1.0)
    assert found.indices.tolist() == [[[0, 1, 0, 0]]]
    assert found.mask.tolist() == [[[True, True, False, False]]]


@pytest.mark.parametrize(("count", "radius", "width"), [(0, 1.0, 3), (1, 0.0, 3), (1, 1.0, 2)])
def test_wrong_arguments_are_refused(count: int, radius: float, width: int) -> None:
    with pytest.raises(ValueError, match="ball_query: expected queries"):
        ball_query(torch.zeros(1, 2, 3), torch.zeros(1, 1, width), count, radius)
