"""Frames of a moving camera are aligned; supervoxels follow the scene."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from modalities.video.trajectories import camera, supervoxels
from modalities.video.trajectories.camera import aligned

SIZE, FRAMES = 64, 8


def ground(seed: int = 0, side: int = 160) -> np.ndarray:
    """Coloured noise of two scales."""
    rng = np.random.default_rng(seed)
    layers = [(2, 15), (8, 40)]
    noise = [gaussian_filter(rng.normal(size=(side, side, 3)), (s, s, 0), mode="wrap") for s, _ in layers]
    return np.clip(120 + sum(a * n / n.std() for n, (_, a) in zip(noise, layers, strict=True)), 0, 255)


def film(matrices: np.ndarray, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Views of a scene: `matrices` are from pixels (x, y) of each frame to those of the scene, `(time, 2, 3)`."""
    scene, (y, x) = ground(seed), np.mgrid[:size, :size]
    frames = []
    for matrix in matrices:
        column, row = matrix[:, :2] @ np.stack([x.ravel(), y.ravel()]) + matrix[:, 2:]
        view = np.stack([map_coordinates(scene[..., c], [row, column], order=1) for c in range(3)], axis=-1)
        frames.append(np.rint(view).reshape(size, size, 3))
    return np.stack(frames).astype(np.uint8)


def shifts(pixels: float) -> np.ndarray:
    """Each frame is this many pixels further to the right, and a third of it further down."""
    matrices = np.tile(np.eye(2, 3), (FRAMES, 1, 1))
    matrices[:, 0, 2] = 30 + pixels * np.arange(FRAMES)
    matrices[:, 1, 2] = 30 + pixels / 3 * np.arange(FRAMES)
    return matrices


def zooms_and_turns() -> np.ndarray:
    centre, matrices = np.array([[31.5], [31.5]]), []
    for time in range(FRAMES):
        scale, angle = 1.04**-time, 0.03 * time
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrices.append(np.concatenate([linear, 80 - linear @ centre], axis=1))
    return np.stack(matrices)


CAMERAS = {"shift": shifts(2.0), "zoom and turn": zooms_and_turns()}


@pytest.mark.parametrize("name", list(CAMERAS))
@pytest.mark.parametrize("size", [64, 45])
def test_estimated_maps_equal_the_camera_within_0_3_pixels(name: str, size: int) -> None:
    """To 0.3 pixels at the corners, for frames that are enlarged before."""
    matrices = CAMERAS[name]
    canvas = aligned(film(matrices, size=size))
    assert canvas is not None
    corners = np.array([[0, size - 1, 0, size - 1], [0, 0, size - 1, size - 1]], float)
    middle = matrices[FRAMES // 2]
    scene = matrices[:, :, :2] @ corners + matrices[:, :, 2:]
    expected = np.linalg.solve(middle[:, :2], scene - middle[:, 2:])
    maps = canvas.maps - np.pad(canvas.maps[FRAMES // 2][:, 2:], ((0, 0), (2, 0)))  # the canvas starts further left
    assert np.abs(maps[:, :, :2] @ corners + maps[:, :, 2:] - expected).max() < 0.3


def test_the_canvas_is_still_and_shows_what_any_frame_shows() -> None:
    canvas = aligned(film(shifts(3.0)))
    assert canvas is not None
    assert canvas.frames.shape[1:3] == pytest.approx((SIZE + 7, SIZE + 21), abs=2)
    assert canvas.area == pytest.approx(71 * 85 / SIZE**2, rel=0.1)
    apart = np.abs(canvas.frames.astype(float) - canvas.frames[FRAMES // 2]).mean()
    assert apart < 3
    place = np.arange(canvas.frames[0, ..., 0].size, dtype=np.int32).reshape(canvas.frames.shape[1:3])
    rows, columns = np.divmod(canvas.to_frames(np.broadcast_to(place, (FRAMES, *place.shape))), place.shape[1])
    assert np.ptp(columns[:, 0, 0]) == pytest.approx(21, abs=1)
    assert np.ptp(rows[:, 0, 0]) == pytest.approx(7, abs=1)
    assert np.all(np.diff(columns[0], axis=1) == 1)


def test_an_object_that_moves_does_not_move_the_camera() -> None:
    still, panned = film(shifts(0.0)), film(shifts(2.0))
    for time in range(FRAMES):
        for frames in (still, panned):
            frames[time, 20:44, 4 * time : 4 * time + 24] = (200, 30, 30)
    assert aligned(still) is None
    canvas = aligned(panned)
    assert canvas is not None
    assert np.diff(canvas.maps[:, 0, 2]) == pytest.approx(2.0, abs=0.2)


def test_noise_cuts_and_tiny_frames_are_not_aligned() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (6, SIZE, SIZE, 3)).astype(np.uint8)
    cut = np.concatenate([film(shifts(0.0))[:4], film(shifts(0.0), seed=1)[:4]])
    for frames in (noise, cut, np.zeros_like(noise), film(shifts(2.0))[:1], noise[:, :8, :8], noise[:, :4]):
        assert aligned(frames) is None


def test_canvas_above_the_limit_is_not_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = film(shifts(2.0))
    assert aligned(frames) is not None
    monkeypatch.setattr(camera, "LARGEST_CANVAS", 1.2)
    assert aligned(frames) is None


@pytest.mark.parametrize("seed", [1, 2])
def test_supervoxels_follow_a_scene_and_are_as_many_as_those_of_a_still_camera(seed: int) -> None:
    """By 35 of 64 pixels: more than 93 % of the visible points keep their trajectory, and fewer without alignment."""
    panned, raw = (supervoxels(film(shifts(5.0), seed), segments=48, align=align) for align in (True, False))
    still = [supervoxels(np.repeat(film(shifts(5.0), seed)[t, None], FRAMES, 0), segments=48).max() for t in (0, 7)]
    assert panned.max() <= 1.5 * np.mean(still)
    assert followed(panned) > 0.93 > followed(raw)


def followed(labels: np.ndarray) -> float:
    """Fraction of the visible points of the middle frame that have its trajectory; for shifts of 5 pixels a frame."""
    middle, fractions = FRAMES // 2, []
    for time in range(FRAMES):
        down, right = round(5 / 3 * (middle - time)), 5 * (middle - time)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        inside = (rows + down >= 0) & (rows + down < SIZE) & (columns + right >= 0) & (columns + right < SIZE)
        own = labels[time][rows[inside] + down, columns[inside] + right]
        fractions.append((own == labels[middle][inside]).mean())
    return float(np.mean(fractions))
