"""The source `shapes`: clips are what their sentences say, and order is the only difference within a pair."""

import re
import time
from typing import Any

import numpy as np
import pytest

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from modalities.video import MODALITY
from modalities.video.sample import Clip
from modalities.video.shapes.appearance import KINDS, draw_appearance
from modalities.video.shapes.order import OPPOSITES, draw_order
from modalities.video.shapes.render import render
from modalities.video.shapes.scene import COLOURS, GROUNDS, MAX_DISTRACTORS, NUMBERS, SHAPES, Scene
from modalities.video.sources.shapes import ShapesSource

REVERSED = {one: other for pair in OPPOSITES.values() for one, other in (pair, pair[::-1])}


def source(**options: Any) -> ShapesSource:
    return ShapesSource(SourceConfig(source="shapes", options=options))


def order_scenes(kind: str, count: int = 20) -> list[Scene]:
    return [scene for seed in range(count) for scene in draw_order(kind, np.random.default_rng(seed))]


def subject_id(scene: Scene) -> int:
    """The segment of the one body that moves in the world or changes its size."""
    moves = [np.ptp(body.path + scene.camera, axis=0).max() + np.ptp(body.radius) for body in scene.bodies]
    (index,) = np.flatnonzero(np.array(moves) > 1)
    name = scene.bodies[index].name
    assert re.match(rf"a (shape|(small |large )?{name}) ", scene.sentence)
    return int(index) + 1


def centroid(labels: np.ndarray, segment: int) -> np.ndarray:
    """Row and column in the first and in the last frame; in between a shape may be hidden."""
    return np.array([np.argwhere(labels[time] == segment).mean(0) for time in (0, -1)])


@pytest.mark.parametrize("task", ["order", "mixed"])
def test_a_pair_has_the_same_frames_in_opposite_orders(task: str) -> None:
    """The multiset of frames is equal, so that no statistic without time tells the two classes apart."""
    shapes = source(task=task, train=40, validation=0, test=10)
    records = shapes.records()
    pairs = [(k, k + 1) for k in range(0, 50, 2) if shapes.scene(k).task == "order"]
    assert len(pairs) == (25 if task == "order" else 12)
    for one, other in pairs:
        first, second = (MODALITY.read(shapes.fetch(f"{k}.npz")) for k in (one, other))
        assert np.array_equal(first.frames, second.frames[::-1])
        assert first.tracks is not None
        assert second.tracks is not None
        assert np.array_equal(first.tracks.labels, second.tracks.labels[::-1])
        assert records[other].labels == (REVERSED[records[one].labels[0]],)
        assert records[one].values["text"] != records[other].values["text"]
        assert records[one].split == records[other].split


def test_classes_of_order_have_equal_appearance_in_every_frame_statistic() -> None:
    shapes = source(task="order", train=80, validation=0, test=0)
    sums: dict[str, list[np.ndarray]] = {}
    for index, record in enumerate(shapes.records()):
        frames = MODALITY.read(shapes.fetch(f"{index}.npz")).frames
        sums.setdefault(record.labels[0], []).append(frames.astype(np.float64).mean(0))
    for label, other in REVERSED.items():
        np.testing.assert_allclose(np.mean(sums[label], 0), np.mean(sums[other], 0), rtol=1e-12)


def test_sentences_of_order_name_the_subject_and_the_background_equally_often() -> None:
    scenes = [scene for kind in OPPOSITES for scene in order_scenes(kind, 50)]
    assert 0.4 < np.mean([scene.sentence.startswith("a shape ") for scene in scenes]) < 0.6
    assert 0.4 < np.mean([scene.sentence.endswith("background") for scene in scenes]) < 0.6
    assert {"a shape moves left", "a shape moves down", "a shape grows"} <= {scene.sentence for scene in scenes}


@pytest.mark.parametrize("kind", ["sideways", "vertically"])
def test_a_shape_moves_as_its_sentence_says(kind: str) -> None:
    axis = 1 if kind == "sideways" else 0
    for scene in order_scenes(kind):
        _, labels = render(scene)
        path = centroid(labels, subject_id(scene))
        forwards = scene.label in ("moves right", "moves down")
        assert scene.label in scene.sentence
        assert (path[-1, axis] - path[0, axis] > 20) == forwards
        assert (path[0, axis] - path[-1, axis] > 20) != forwards


def test_a_shape_grows_or_shrinks_as_its_sentence_says() -> None:
    for scene in order_scenes("size"):
        _, labels = render(scene)
        areas = (labels == subject_id(scene)).sum((1, 2))
        assert (areas[-1] > 2 * areas[0]) == (scene.label == "grows")
        assert (areas[0] > 2 * areas[-1]) == (scene.label == "shrinks")


def test_a_shape_passes_in_front_and_behind_as_its_sentence_says() -> None:
    """The shape in front keeps its area while they meet, the one behind loses some of it."""
    for scene in order_scenes("passing"):
        _, labels = render(scene)
        name = rf"a (?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
        found = re.search(rf"passes (in front of|behind) {name}, then (in front of|behind) {name}", scene.sentence)
        assert found is not None
        first, then = found.groups()
        assert scene.label == f"passes {first.removesuffix(' of')}, then {then.removesuffix(' of')}"
        areas = (labels == subject_id(scene)).sum((1, 2))
        half = len(areas) // 2
        least = areas[:half].min(), areas[half:].min()
        assert (least[0] < least[1]) == (first == "behind")


def test_appearance_is_what_its_sentence_says() -> None:
    for kind, (colour, shape) in enumerate(KINDS):
        scene = draw_appearance(kind, np.random.default_rng(kind))
        _, labels = render(scene)
        moving = [body for body in scene.bodies if body.name == f"{colour} {shape}"]
        number = next(n for n in (1, 2, 3) if scene.sentence.startswith(f"{NUMBERS[n]} "))
        assert len(moving) == number == scene.subjects
        assert scene.label == f"{colour} {shape}"
        assert scene.label in scene.sentence
        last = len(scene.bodies)
        path = centroid(labels, last)  # subjects are the foremost
        travel = np.abs(path[-1] - path[0])
        assert travel.argmax() == ("sideways" in scene.sentence)
        others = [body for body in scene.bodies if body.name != scene.label]
        still = [np.abs(body.path + scene.camera - body.path[0] - scene.camera[0]).max() for body in others]
        assert max(still, default=0) < 1e-9
        assert f"on a {scene.ground} background" in scene.sentence


def test_scenes_have_the_stated_numbers_backgrounds_and_cameras() -> None:
    scenes = [draw_appearance(k % 30, np.random.default_rng(k)) for k in range(400)]
    counts = [len(scene.bodies) for scene in scenes]
    assert min(counts) == 1
    assert 10 <= max(counts) <= 3 + MAX_DISTRACTORS
    assert {scene.ground for scene in scenes} == set(GROUNDS)
    moving = np.mean([np.ptp(scene.camera) > 0 for scene in scenes])
    assert 0.4 < moving < 0.6


def test_masks_cover_the_drawn_shapes() -> None:
    """Every pixel of a segment has its colour, up to the noise; the background has none of the colours."""
    for kind in range(0, 30, 7):
        scene = draw_appearance(kind, np.random.default_rng(kind))
        frames, labels = render(scene)
        for index, body in enumerate(scene.bodies):
            seen = frames[labels == index + 1].astype(int)
            assert np.abs(seen - COLOURS[body.colour]).max(initial=0) <= 6
        ground = frames[labels == 0].astype(int)
        assert min(np.abs(ground - colour).max(1).min() for colour in COLOURS.values()) > 6


def test_records_are_balanced_and_the_same_each_time() -> None:
    options = {"train": 240, "validation": 20, "test": 60, "seed": 3}
    records = source(**options).records()
    assert [record.split for record in records] == ["train"] * 240 + ["validation"] * 20 + ["test"] * 60
    labels = [record.labels[0] for record in records if record.split == "train"]
    assert {labels.count(f"{colour} {shape}") for colour, shape in KINDS} == {4}
    assert {labels.count(label) for label in REVERSED} == {15}
    again = source(**options)
    assert again.records() == records
    assert again.fetch("7.npz") == source(**options).fetch("7.npz")
    assert again.fetch("7.npz") != source(train=240, seed=4).fetch("7.npz")
    assert again.fingerprint() == source(**options).fingerprint()
    others = source(**{**options, "seed": 4}), source(**options, task="order")
    assert len({shapes.fingerprint() for shapes in (again, *others)}) == 3


def test_a_split_does_not_depend_on_the_size_of_the_others() -> None:
    small, large = source(train=5, validation=0, test=4), source(train=11, validation=3, test=4)
    texts = [[r.values["text"] for r in shapes.records() if r.split == "test"] for shapes in (small, large)]
    assert texts[0] == texts[1]
    assert small.fetch("5.npz") == large.fetch("14.npz")


def test_tasks_are_columns_or_chosen() -> None:
    assert {source(task=task).scene(9).task for task in ("appearance", "order")} == {"appearance", "order"}
    columns = {"video": "video", "text": "text", "label": "task"}
    mixed = ShapesSource(SourceConfig(source="shapes", columns=columns, options={"train": 8}))
    assert [record.labels[0] for record in mixed.records()[:4]] == ["appearance"] * 2 + ["order"] * 2


def test_a_fetched_clip_is_read() -> None:
    shapes = source(train=8, validation=0, test=0)
    for record in shapes.records():
        clip = MODALITY.read(shapes.fetch(record.values["video"][0]))
        assert isinstance(clip, Clip)
        assert clip.frames.shape == (24, 64, 64, 3)
        assert clip.seconds == 3.0
        assert clip.tracks is not None
        assert len(clip.tracks) >= record.targets["count"]
    for wrong in ("8.npz", "x", "../0.npz", "0.npy", "00.npz"):
        with pytest.raises(BadSample, match=r"0.npz to 7.npz"):
            shapes.fetch(wrong)


def test_drawing_takes_a_few_milliseconds() -> None:
    shapes = source(train=100)
    start = time.process_time()
    for index in range(100):
        shapes.fetch(f"{index}.npz")
    assert time.process_time() - start < 2  # 0.4 s on one core of an idle machine


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tran": 3}, "did you mean 'train'"), ({"train": -1}, "train"), ({"task": "ordr"}, "did you mean 'order'")],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        source(**options)
