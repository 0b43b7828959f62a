"""PointNet++: what must not change its features."""

import pytest
import torch
from torch.testing import assert_close

from mmalign import UserError
from modalities.pointcloud import MODALITY
from modalities.pointcloud.encoders.pointnet2 import PointNet2


def build() -> PointNet2:
    torch.manual_seed(0)
    args = {"width": 8, "groups": [16, 4], "sizes": [6, 4]}
    encoder = MODALITY.encoder("pointnet2", MODALITY.transform("pointnet2", args), **args)
    assert isinstance(encoder, PointNet2)
    return encoder.double().eval()


def test_order_of_points_does_not_change_the_features() -> None:
    encoder = build()
    points = torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask, order = torch.ones(2, 50, dtype=torch.bool), torch.randperm(50, generator=torch.Generator().manual_seed(1))
    one, other = (encoder({"points": values, "mask": mask}).vector for values in (points, points[:, order]))
    assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [30, 9, 2])
def test_padding_does_not_change_the_features_of_a_cloud(count: int) -> None:
    encoder = build()
    points = torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.arange(50) < torch.tensor([50, count])[:, None]
    together = encoder({"points": points.masked_fill(~mask[:, :, None], torch.nan), "mask": mask})
    alone = encoder({"points": points[1:, :count], "mask": mask[1:, :count]})
    assert_close(together.vector[1:], alone.vector, rtol=0, atol=1e-12)
    assert torch.equal(together.tokens.mask[1:], alone.tokens.mask)


def test_wrong_arguments_are_named() -> None:
    transform = MODALITY.transform("pointnet2", {})
    with pytest.raises(UserError, match="expected two positive numbers for groups, got \\[16\\]"):
        MODALITY.encoder("pointnet2", transform, groups=[16])
