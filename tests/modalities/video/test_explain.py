"""Units of explanations: which cells they cover, their names, and the shading of the film strip."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from mmalign.errors import UserError
from mmalign.modality import Encoder
from modalities.video import MODALITY
from modalities.video.explain import ClipUnits
from modalities.video.sample import Clip, Tracks
from modalities.video.transform import VideoTransform

ARGS: dict[str, dict[str, Any]] = {
    "trajvit": {"width": 16, "depth": 1, "heads": 2, "cnn_width": 4},
    "trajtok": {"width": 16, "depth": 1, "heads": 2, "cnn_width": 4, "queries": 3},
    "vit3d": {"width": 16, "depth": 1, "heads": 2, "tubelet": [2, 8]},
    "frames": {"args": {"width": 4, "depths": [1]}},
}


def clip(frames: int = 6) -> Clip:
    """The left half is one object, the right half another, which appears in the third frame."""
    labels = np.zeros((frames, 32, 32), np.int32)
    labels[:, :, :16] = 1
    labels[2:, :, 16:] = 2
    table = np.array([[1] * frames, [0, 0] + [2] * (frames - 2)], np.int32)
    return Clip(np.full((frames, 32, 32, 3), 100, np.uint8), 4.0, Tracks(labels, table))


def build(name: str, **settings: Any) -> tuple[VideoTransform, Encoder]:
    transform = MODALITY.transform(name, ARGS[name], size=32, frames=8, **settings)
    torch.manual_seed(0)
    return transform, MODALITY.encoder(name, transform, **ARGS[name]).eval()


def labelled(name: str, level: str, sample: Clip, **settings: Any) -> Any:
    transform, encoder = build(name, **settings)
    features = encoder(transform.collate([transform.item(sample)]))
    count = getattr(features, level).values.shape[1]
    found = MODALITY.token_labels(sample, transform, encoder, level, count)
    assert found is not None
    assert len(found.labels) == len(set(found.labels)) == len(found.members)
    assert found.members.shape[1] == count
    real = getattr(features, level).mask[0].numpy()
    np.testing.assert_array_equal(found.members.sum(0), real)
    return found


def test_trajectories_are_their_segments() -> None:
    found = labelled("trajvit", "parts", clip(), tracks="masks")
    assert found.labels == ["middle left 0.12-1.38 s", "middle right 0.62-1.38 s", "middle right 0.12-0.38 s"]
    assert found.shown.cells.shape == (6, 8, 8)  # two of the eight frames are padding
    assert found.shown.cells[0, 0].tolist() == [0] * 4 + [2] * 4
    assert found.shown.cells[5, 0].tolist() == [0] * 4 + [1] * 4


def test_learnt_trajectories_cover_every_cell() -> None:
    transform, encoder = build("trajtok")
    found = MODALITY.token_labels(clip(), transform, encoder, "parts", 3)
    assert found is not None
    assert found.shown.cells.shape == (6, 8, 8)
    assert found.shown.cells.min() >= 0
    assert found.shown.cells.max() <= 2


@pytest.mark.parametrize("name", ["trajvit", "trajtok", "frames"])
def test_tokens_are_frames(name: str) -> None:
    found = labelled(name, "tokens", clip())
    assert found.labels == ["0.12 s", "0.38 s", "0.62 s", "0.88 s", "1.12 s", "1.38 s"]


def test_patches_are_tubelets() -> None:
    found = labelled("vit3d", "tokens", clip())
    assert len(found.labels) == 3 * 16
    assert found.labels[:2] == ["upper left 0.12-0.38 s", "upper centre 0.12-0.38 s 1"]
    assert found.shown.cells[3, 1, 2] == 16 + 4 + 2


def test_encoders_without_parts_have_no_labels_of_parts() -> None:
    transform, encoder = build("vit3d")
    assert MODALITY.token_labels(clip(), transform, encoder, "parts", 3) is None


def test_the_strip_is_bright_where_the_weight_is_high() -> None:
    found = labelled("trajvit", "parts", clip(), tracks="masks")
    axes = Figure().subplots()
    MODALITY.weighted_picture(found.shown, axes, [1.0, 0.0, 0.0])
    strip = np.asarray(axes.images[0].get_array())
    assert (strip[:, :16] == 100).all()
    assert (strip[:, 16:32] == 25).all()


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")]])
def test_invalid_weights(weights: list[float]) -> None:
    units = ClipUnits(Clip(np.zeros((1, 8, 8, 3), np.uint8), 1.0), np.array([[[0, 1]]]))
    with pytest.raises(UserError, match="2 finite weights"):
        units.lit(weights)
