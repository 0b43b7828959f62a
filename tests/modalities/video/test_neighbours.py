"""Near clips: the reversed clip first, equal clips never, the same in blocks, any size of frames."""

import numpy as np
import pytest

from mmalign.data.sources.base import SourceConfig
from modalities.common import nearest
from modalities.video import MODALITY
from modalities.video.neighbours import mean_picture
from modalities.video.sample import Clip
from modalities.video.sources.shapes import ShapesSource


def order_clips(count: int) -> list[Clip]:
    options = {"task": "order", "train": count, "validation": 0, "test": 0}
    source = ShapesSource(SourceConfig(source="shapes", options=options))
    return [MODALITY.read(source.fetch(f"{index}.npz")) for index in range(count)]


def test_the_nearest_clip_is_the_reversed_one() -> None:
    near = MODALITY.neighbours(order_clips(32), 2)
    assert near[:, 0].tolist() == [index ^ 1 for index in range(32)]
    assert all(index not in row for index, row in enumerate(near.tolist()))


def test_neighbours_exclude_equal_clips() -> None:
    one, other, third, _ = order_clips(4)
    copy = Clip(one.frames.copy(), one.rate)
    assert MODALITY.neighbours([one, copy, other, third], 3).tolist() == [[2, 3, -1], [2, 3, -1], [0, 1, 3], [0, 1, 2]]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = order_clips(12)
    whole = MODALITY.neighbours(clips, 5)
    monkeypatch.setattr(nearest, "BLOCK", 5 * len(clips))
    np.testing.assert_array_equal(MODALITY.neighbours(clips, 5), whole)


def test_few_clips() -> None:
    (clip,) = order_clips(2)[:1]
    assert MODALITY.neighbours([], 2).shape == (0, 2)
    assert MODALITY.neighbours([clip], 2).tolist() == [[-1, -1]]
    assert MODALITY.neighbours([clip, clip], 0).shape == (2, 0)


@pytest.mark.parametrize("size", [(8, 8), (19, 33), (256, 300)])
def test_the_mean_picture_is_the_mean_of_each_cell(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    rows, columns = (np.arange(9) * length // 8 for length in size)
    for i in range(8):
        for j in range(8):
            cell = frames[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]].astype(float)
            np.testing.assert_allclose(mean_picture(frames)[i, j], cell.mean((0, 1, 2)))


def test_frames_smaller_than_the_grid_have_a_mean_picture() -> None:
    frames = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 1, 3)
    picture = mean_picture(frames)
    assert picture.shape == (8, 8, 3)
    np.testing.assert_allclose(picture[[0, -1], 0], frames.mean(0)[[0, -1], 0])
