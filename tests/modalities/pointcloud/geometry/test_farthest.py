"""Farthest point sampling against a loop in double precision and against fpsample."""

import numpy as np
import pytest
import torch
from torch import Tensor

from modalities.pointcloud.geometry import farthest_point_sampling, take_points
from modalities.pointcloud.geometry.farthest import _first, _on_device


def reference(cloud: Tensor, count: int, start: int) -> list[int]:
    """Greedy choice from the definition; ties go to the lowest index."""
    x = cloud.double()
    chosen = [start]
    while len(chosen) < min(count, len(x)):
        nearest = torch.cdist(x, x[chosen], compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        nearest[chosen] = -1
        best = nearest.max()
        chosen.append(next(place for place, value in enumerate(nearest.tolist()) if value == best))
    return chosen


def clouds(batch: int, size: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, size, 3, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("size", [1, 5, 40, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_indices_equal_a_loop_in_float64(size: int, dtype: torch.dtype) -> None:
    x = clouds(5, size, size, dtype)
    chosen = farthest_point_sampling(x, min(size, 20), start=0)
    assert chosen.mask.all()
    assert chosen.indices.tolist() == [reference(cloud, 20, 0)[: min(size, 20)] for cloud in x]


@pytest.mark.parametrize(("size", "count"), [(1024, 64), (3000, 128)])
def test_indices_equal_fpsample(size: int, count: int) -> None:
    fpsample = pytest.importorskip("fpsample")
    x = clouds(6, size, 3)
    chosen = farthest_point_sampling(x, count, start=7).indices
    for cloud, row in zip(x, chosen, strict=True):
        assert row.tolist() == fpsample.fps_sampling(cloud.numpy(), count, start_idx=7).tolist()


def test_device_implementation_equals_the_cpu_one() -> None:
    x, mask = clouds(4, 300), torch.rand(4, 300, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[3] = False
    mask[2, 10:] = False
    chosen = farthest_point_sampling(x, 50, mask=mask)
    assert torch.equal(chosen.indices, _on_device(x, mask, _first(x, mask, None), 50))


def test_ties_and_duplicates_go_to_the_lowest_index() -> None:
    square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
    assert farthest_point_sampling(square, 5).indices.tolist() == [reference(square[0], 5, 3)]
    same = torch.ones(2, 6, 3)
    chosen = farthest_point_sampling(same, 6)
    assert chosen.indices.sort(1).values.tolist() == [list(range(6))] * 2
    assert chosen.mask.all()


def test_too_few_points_are_repeated_and_masked() -> None:
    x = clouds(2, 10)
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[0, 2:5] = True
    chosen = farthest_point_sampling(x, 6, mask=mask)
    assert chosen.mask.tolist() == [[True] * 3 + [False] * 3, [False] * 6]
    assert set(chosen.indices[0].tolist()) == {2, 3, 4}
    more = farthest_point_sampling(x, 12)
    assert more.mask.sum(1).tolist() == [10, 10]
    assert more.indices[0, :10].unique().numel() == 10


def test_padding_is_never_read() -> None:
    x, padded = clouds(3, 50), torch.full((3, 90, 3), 1e30)
    padded[:, 20:70] = x
    mask = torch.zeros(3, 90, dtype=torch.bool)
    mask[:, 20:70] = True
    alone, together = farthest_point_sampling(x, 30), farthest_point_sampling(padded, 30, mask=mask)
    assert torch.equal(alone.indices + 20, together.indices)
    padded[~mask] = torch.nan
    assert torch.equal(farthest_point_sampling(padded, 30, mask=mask).indices, together.indices)


def test_order_of_points_does_not_change_the_choice() -> None:
    x = clouds(3, 400)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(2))
    first = take_points(x, farthest_point_sampling(x, 40).indices)
    again = take_points(x[:, order], farthest_point_sampling(x[:, order], 40).indices)
    torch.testing.assert_close(again, first, atol=0, rtol=0)


def test_greedy_cover_is_at_most_twice_the_best() -> None:
    x = clouds(8, 9)
    for cloud in x:
        chosen = cloud[farthest_point_sampling(cloud[None], 3).indices[0]]
        radius = torch.cdist(cloud, chosen).amin(1).max()
        trios = torch.combinations(torch.arange(9), 3)
        best = min(float(torch.cdist(cloud, cloud[trio]).amin(1).max()) for trio in trios)
        assert radius <= 2 * best + 1e-6


def test_low_precision_strided_and_empty_batches() -> None:
    x = clouds(3, 60)
    half = x.bfloat16()
    assert torch.equal(farthest_point_sampling(half, 9).indices, farthest_point_sampling(half.float(), 9).indices)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(farthest_point_sampling(strided, 9).indices, farthest_point_sampling(x, 9).indices)
    assert farthest_point_sampling(x[:0], 9).indices.shape == (0, 9)
    assert farthest_point_sampling(x.requires_grad_(), 9).indices.dtype == torch.int64


def test_wrong_arguments_are_refused() -> None:
    x = clouds(2, 5)
    for wrong in (
        {"count": 0},
        {"start": 5},
        {"start": -1},
        {"mask": torch.ones(2, 5)},
        {"mask": torch.ones(2, 4) > 0},
    ):
        with pytest.raises(ValueError, match="farthest_point_sampling: expected"):
            farthest_point_sampling(x, **({"count": 3} | wrong))
    with pytest.raises(ValueError, match="got torch.int64"):
        farthest_point_sampling(x.long(), 3)
    with pytest.raises(ValueError, match="masked"):
        farthest_point_sampling(x, 3, start=0, mask=torch.arange(5).expand(2, 5) > 0)
    assert np.isfinite(x.numpy()).all()
