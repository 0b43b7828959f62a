"""The benchmark of videos runs, and its scores are what they are called."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks import video_camera, video_costs, videos


@pytest.fixture(autouse=True)
def threads():
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def test_ranks_count_ties_against_and_take_the_best_relevant_column() -> None:
    scores = np.array([[0.9, 0.5, 0.5, 0.1], [0.2, 0.2, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]])
    relevant = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]], bool)
    assert videos.ranks(scores, relevant).tolist() == [2, 2, 0]


def test_tables_of_a_tiny_run(tmp_path: Path, capsys) -> None:
    """Mean-pooled frames are at chance within the pairs of task order, by construction."""
    sizes = ["--seeds", "0", "--epochs", "1", "--train", "16", "--test", "16", "--draw", "1"]
    result = videos.main(["--methods", "frames", "--tasks", "order", *sizes, "--json", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == result
    assert result["settings"]["draw"] == 1
    (row,) = result["accuracy"]
    assert row["scores"]["pair"][0] == 0.5
    assert row["tokens"] == 16
    assert "| order | frames | 1 |" in capsys.readouterr().out


def test_clips_differ_between_draws() -> None:
    one, other = (videos.Bench("order", 4, 4, draw=draw) for draw in (0, 1))
    assert one.sentences != other.sentences


def written(path: Path, method: str, seed: int, values: list[float], epochs: int = 1, task: str = "order") -> Path:
    run = {"task": task, "method": method, "seed": seed, "seconds": 10.0 * (seed + 1), "tokens": 4.0}
    run["outcomes"] = {"zero-shot": values, "pair": values}
    path.write_text(json.dumps({"settings": {"epochs": epochs}, "runs": [run]}))
    return path


def test_runs_made_apart_are_joined(tmp_path: Path) -> None:
    """Means over seeds, and paired differences to the reference, against the same by hand."""
    write = partial(written, values=[0.0, 1.0, 1.0, 1.0])
    files = [
        write(tmp_path / "0.json", "vit3d", 0),
        write(tmp_path / "1.json", "frames", 0, values=[1.0, 1.0, 1.0, 1.0]),
        write(tmp_path / "2.json", "frames", 1, values=[0.0, 1.0, 0.0, 1.0]),
    ]
    reference, row = videos.main(["--join", *map(str, files)])["accuracy"]
    assert reference["scores"]["pair"] == [0.75, 0.5, 1.0]
    assert "minus_reference" not in reference
    assert row["seeds"] == [0, 1]
    assert row["per_seed"]["pair"] == [1.0, 0.5]
    assert row["scores"]["pair"][0] == 0.75
    assert row["seconds"] == 15
    assert row["minus_reference"]["zero-shot"][0] == 0
    alone = videos.accuracy(json.loads(files[0].read_text())["runs"])
    assert alone == [reference]


def test_runs_of_other_settings_or_twice_are_not_joined(tmp_path: Path) -> None:
    write = partial(written, values=[1.0, 0.0])
    first = write(tmp_path / "0.json", "frames", 0)
    with pytest.raises(SystemExit, match="epochs"):
        videos.joined([first, write(tmp_path / "1.json", "frames", 1, epochs=2)])
    with pytest.raises(SystemExit, match="twice"):
        videos.joined([first, write(tmp_path / "2.json", "frames", 0)])


def test_costs_of_one_clip() -> None:
    row = video_costs.cost("trajvit grid", 6, 32, 1)
    assert row["tokens"] == 64
    assert row["frames"] == 6
    assert row["total_s"] >= row["encoder_s"] > 0
    assert row["memory_mib"] >= 0


def test_trajectories_of_files_are_counted(tmp_path: Path, capsys) -> None:
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    frames[:, :, 16:] = 200
    np.savez(tmp_path / "clip.npz", frames=frames, rate=8)
    sizes = ["--frames", "4", "--size", "32"]
    assert video_costs.main([*sizes, "--clips", str(tmp_path / "clip.npz")]) == [{"clip": "clip.npz", "tokens": 2}]
    assert "| clip.npz | 2 |" in capsys.readouterr().out


def test_trajectories_of_scene_points_follow_the_scene() -> None:
    """Labels that are drawn on the scene follow every camera; those of fixed patches do not follow a moving one."""
    size, whens = 32, np.linspace(-0.5, 0.5, 5)
    scene = np.kron(np.arange(256).reshape(16, 16), np.ones((8, 8)))[..., None].repeat(3, 2).astype(np.uint8)
    fixed = np.kron(np.arange(64).reshape(8, 8), np.ones((4, 4)))[None].repeat(len(whens), 0).astype(np.int32)
    for name, motion in video_camera.MOTIONS.items():
        labels = nearest_film(scene, motion, whens, size)
        assert video_camera.follow(labels, motion, whens) > 0.9, name
        assert video_camera.follow(fixed, motion, whens) < 0.75, name
    assert video_camera.follow(fixed, video_camera.Motion(), whens) == 1


def nearest_film(scene: np.ndarray, motion: video_camera.Motion, whens: np.ndarray, size: int) -> np.ndarray:
    centre, half = 63.5, 0.22 * 128
    matrices = [motion.matrix(float(when)) for when in whens]
    at = [np.rint(centre + half * (m[:, :2] @ video_camera.grid(size) + m[:, 2:])).astype(int) for m in matrices]
    return np.stack([scene[row, column, 0].reshape(size, size) for row, column in at]).astype(np.int32)


def test_camera_table_of_a_tiny_run(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Fixed patches are as many as those of a still camera, whatever the camera does."""
    monkeypatch.setitem(
        video_camera.MAKERS, "supervoxels", lambda frames, segments: np.ones(frames.shape[:3], np.int32)
    )
    monkeypatch.setattr(video_camera, "MOTIONS", {"shift 1/4": video_camera.MOTIONS["shift 1/4"]})
    rows = video_camera.main(["--methods", "supervoxels", "--seeds", "0", "--clips", "--size", "16"])
    assert {row["count"] for row in rows} == {row["follow"] for row in rows} == {1.0}
    assert "| supervoxels | 2 simulated | shift 1/4 | 1 | 1.00 | 1.00 | 1.00 | 1.00 |" in capsys.readouterr().out
