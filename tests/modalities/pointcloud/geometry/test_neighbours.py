"""Nearest neighbours against a loop in double precision and against SciPy."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from modalities.pointcloud.geometry import nearest_neighbours, neighbours


def clouds(batch: int, size: int, seed: int = 0, width: int = 3) -> Tensor:
    return torch.randn(batch, size, width, generator=torch.Generator().manual_seed(seed))


def reference(
    points: Tensor, queries: Tensor, count: int, mask: Tensor, radius: float = np.inf
) -> list[list[list[int]]]:
    """Sorted distances from the definition; no padding."""
    found = []
    for cloud, asked, real in zip(points.double(), queries.double(), mask, strict=True):
        rows = []
        for query in asked:
            distance = (cloud - query).norm(dim=1)
            order = sorted((d, place) for place, d in enumerate(distance.tolist()) if real[place] and d <= radius)
            rows.append([place for _, place in order[:count]])
        found.append(rows)
    return found


@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize("radius", [None, 0.7])
@pytest.mark.parametrize("width", [2, 3, 6])
def test_indices_equal_a_loop_in_float64(
    tree: bool, radius: float | None, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_VALUES", 200)  # several blocks of clouds and of queries
    points, queries = clouds(3, 60, 1, width), clouds(3, 17, 2, width)
    mask = torch.rand(3, 60, generator=torch.Generator().manual_seed(3)) < 0.7
    found = nearest_neighbours(points, queries, 9, mask=mask, radius=radius, tree=tree)
    expected = reference(points, queries, 9, mask, radius or np.inf)
    for row, cloud in enumerate(expected):
        for place, near in enumerate(cloud):
            assert found.indices[row, place][found.mask[row, place]].tolist() == near


@pytest.mark.parametrize("tree", [True, False])
def test_missing_neighbours_repeat_the_nearest_one(tree: bool) -> None:
    points, mask = clouds(2, 5), torch.tensor([[True, False, True, False, True], [False] * 5])
    found = nearest_neighbours(points, points, 8, mask=mask, tree=tree)
    assert found.mask.sum(2).tolist() == [[3] * 5, [0] * 5]
    assert torch.equal(found.indices[0, :, 3:], found.indices[0, :, :1].expand(-1, 5))
    assert found.indices[1].eq(0).all()
    assert torch.equal(found.indices[0, [0, 2, 4], 0], torch.tensor([0, 2, 4]))  # a point is its own neighbour


@pytest.mark.parametrize("tree", [True, False])
def test_one_neighbour_at_exactly_the_radius(tree: bool) -> None:
    points = torch.tensor([[[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [3.0, 4.1, 0.0]]])
    found = nearest_neighbours(points, points[:, :1], 3, radius=5.0, tree=tree)
    assert found.indices.tolist() == [[[0, 1, 0]]]
    assert found.mask.tolist() == [[[True, True, False]]]


def test_distances_equal_scipy_and_blocks_equal_the_tree() -> None:
    points, queries = clouds(2, 900, 5), clouds(2, 70, 6)
    tree, blocks = (nearest_neighbours(points, queries, 32, tree=tree).indices for tree in (True, False))
    assert torch.equal(tree, blocks)
    for row in range(2):
        assert tree[row].tolist() == cKDTree(points[row].numpy()).query(queries[row].numpy(), k=32)[1].tolist()


@pytest.mark.parametrize("tree", [True, False])
def test_points_far_from_the_origin_keep_their_precision(tree: bool) -> None:
    """Distances by a matrix product would be wrong by metres at UTM coordinates."""
    points = clouds(1, 200).double() + 5e6
    expected = nearest_neighbours(clouds(1, 200).double(), clouds(1, 200).double(), 8, tree=tree).indices
    assert torch.equal(nearest_neighbours(points, points, 8, tree=tree).indices, expected)


@pytest.mark.parametrize("tree", [True, False])
def test_padding_is_never_read(tree: bool) -> None:
    points, padded = clouds(2, 40), torch.full((2, 60, 3), 0.0)
    padded[:, 10:50] = points
    mask = torch.zeros(2, 60, dtype=torch.bool)
    mask[:, 10:50] = True
    alone = nearest_neighbours(points, points, 6, tree=tree).indices
    for filler in (0.0, 1e30):
        padded[~mask] = filler
        assert torch.equal(nearest_neighbours(padded, points, 6, mask=mask, tree=tree).indices, alone + 10)


def test_wrong_arguments_are_refused() -> None:
    points = clouds(2, 5)
    for queries, count, radius in ((clouds(1, 5), 2, None), (clouds(2, 5, width=2), 2, None), (points, 0, None),
                                   (points, 2, 0.0), (points, 2, float("nan"))):  # fmt: skip
        with pytest.raises(ValueError, match="nearest_neighbours: expected"):
            nearest_neighbours(points, queries, count, radius=radius)
