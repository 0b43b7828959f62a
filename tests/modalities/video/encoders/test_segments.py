"""Pooling by scatter and the resampler against float64 loops written from the equations."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from modalities.video.encoders.resampler import CrossAttention, Resampler
from modalities.video.encoders.segments import segment_rows

from .video_inputs import video_inputs


def rows_loop(
    features: Tensor, segments: Tensor, mask: Tensor
) -> list[tuple[int, int, int, Tensor, list[float], list[float]]]:
    """Clip, trajectory, frame, mean feature, centroid and box of every segment, cell by cell."""
    found = []
    for b in range(len(mask)):
        for m in sorted({int(i) for t in range(mask.shape[1]) if mask[b, t] for i in segments[b, t].flatten()} - {-1}):
            for t in range(mask.shape[1]):
                height, width = segments.shape[2:]
                cells = [
                    (y, x) for y in range(height) for x in range(width) if mask[b, t] and segments[b, t, y, x] == m
                ]
                if cells:
                    mean = sum(features[b, t, y, x] for y, x in cells) / len(cells)
                    xs, ys = [(x + 0.5) / width for _, x in cells], [(y + 0.5) / height for y, _ in cells]
                    box = [min(xs) - 0.5 / width, min(ys) - 0.5 / height, max(xs) + 0.5 / width, max(ys) + 0.5 / height]
                    found.append((b, m, t, mean, [sum(xs) / len(xs), sum(ys) / len(ys)], box))
    return found


@pytest.mark.parametrize("place", ["centroid", "box"])
def test_rows_are_means_and_places_of_segments(place: str) -> None:
    torch.manual_seed(0)
    inputs = video_inputs(batch=3, frames=4, size=16, tracks=9, real=[4, 2, 3])
    segments, mask = inputs["segments"].clone(), inputs["mask"]
    segments[1][segments[1] == 3] = -1  # a gap in the indices of one clip
    features = torch.randn(3, 4, 4, 4, 5, dtype=torch.float64)
    rows = segment_rows([features[mask]], segments, mask, place=place)
    expected = rows_loop(features, segments, mask)
    names = rows.present.nonzero().tolist()
    assert len(expected) == int(rows.mask.sum()) > 50
    assert not rows.present[1, 3]
    for b, m, t, mean, centroid, box in expected:
        row = names.index([b, m])
        assert rows.mask[row, t]
        assert int(rows.clips[row]) == b
        torch.testing.assert_close(rows.values[row, t], mean)
        torch.testing.assert_close(
            rows.coordinates[row, t], torch.tensor(centroid if place == "centroid" else box), rtol=1e-6, atol=1e-6
        )
    assert not rows.values[~rows.mask].any()
    assert not rows.coordinates[~rows.mask].any()


def test_segment_rows_are_padded_per_clip() -> None:
    inputs = video_inputs(batch=2, frames=2, size=16, tracks=3)
    segments = inputs["segments"].clone()
    segments[0][segments[0] == 1] = -1
    rows = segment_rows([torch.zeros(4, 4, 4, 1)], segments, inputs["mask"])
    padded = rows.padded(torch.arange(1.0, 6.0)[:, None])
    assert padded[..., 0].tolist() == [[1, 0, 2], [3, 4, 5]]


def attention_loop(layer: CrossAttention, vector: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
    """Keys and values of every row, one head at a time."""

    def normed(values: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
        return F.layer_norm(values, norm.normalized_shape, norm.weight, norm.bias)

    own = normed(vector, layer.norm_vector)
    width = len(own)
    size = width // layer.heads
    read = [own, *(normed(row, layer.norm_rows) for row, real in zip(rows, mask, strict=True) if real)]
    mixed = torch.zeros_like(own)
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        query = layer.query.weight[part] @ own + layer.query.bias[part]
        weights = [math.exp(float(query @ (layer.key.weight[part] @ row)) / math.sqrt(size)) for row in read]
        for weight, row in zip(weights, read, strict=True):
            mixed[part] += weight / sum(weights) * (layer.value.weight[part] @ row + layer.value.bias[part])
    return vector + layer.out.weight @ mixed + layer.out.bias


def test_the_resampler_is_attention_of_one_vector_to_itself_and_the_real_rows() -> None:
    torch.manual_seed(0)
    model = Resampler(12, depth=2, heads=3).double()
    rows = torch.randn(4, 5, 12, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [False, True, False, True, False], [True] + [False] * 4, [False] * 5])
    with torch.no_grad():
        found = model(rows, mask)
        for i in range(4):
            vector = model.latent
            for layer in model.layers:
                vector = attention_loop(layer, vector, rows[i], mask[i])
            expected = F.layer_norm(vector, (12,), model.norm.weight, model.norm.bias)
            torch.testing.assert_close(found[i], expected)


def test_absent_rows_are_not_read_and_weights_scale_attention() -> None:
    torch.manual_seed(0)
    model, rows = Resampler(8, depth=2, heads=2).double(), torch.randn(3, 6, 8, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True, False] * 3, [False] * 6])
    before = model(rows, mask)
    torch.testing.assert_close(model(rows.masked_fill(~mask[..., None], 1e3), mask), before, rtol=0, atol=1e-12)
    assert before.isfinite().all()
    doubled = torch.cat([rows[:1], rows[:1, :1]], dim=1)  # a row twice = the same row with weight 2
    weights = torch.ones(1, 6, dtype=torch.float64)
    weights[0, 0] = 2.0
    torch.testing.assert_close(model(doubled, torch.ones(1, 7, dtype=torch.bool)), model(rows[:1], mask[:1], weights))


@pytest.mark.parametrize("options", [{"depth": 0, "heads": 2}, {"depth": 1, "heads": 3}])
def test_a_resampler_that_cannot_be_built(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="resampler_depth|heads must divide"):
        Resampler(8, **options)
