"""`evaluate --average video`: the parts of a video are one item, the mean of their vectors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import mmalign
from mmalign.cli import main

TEXTS = ("a dark film", "a bright film", "a red film", "a film of noise", "a film of stripes", "a green film")


def films(folder: Path) -> Path:
    """A table of six videos of two parts each, as NPZ; the second parts are alike."""
    rng = np.random.default_rng(0)
    lines = ["file\ttext\tsplit"]
    for index, text in enumerate(TEXTS):
        frames = np.full((24, 32, 32, 3), 40 * index, np.uint8)
        frames[:12] = rng.integers(0, 256, (1, 32, 32, 3))
        frames[:, :, ::2, index % 3] = 255
        np.savez(folder / f"{index}.npz", frames=frames, rate=8.0)
        parts = ";".join(f"{index}.npz#part={part}of2" for part in (1, 2))
        lines += [f"{parts}\t{text}\t{split}" for split in ("train", "test")]
    (folder / "films.tsv").write_text("\n".join(lines) + "\n")
    return folder / "films.tsv"


@pytest.mark.parametrize("recipe", ["video-text/frames", "video-text/clip"])
def test_average_merges_the_parts_of_a_video(recipe: str, tmp_path: Path) -> None:
    table = films(tmp_path)
    settings = {
        "data.source": "manifest", "data.manifest": str(table), "data.columns": {"video": "file", "text": "text"},
        "data.separator": ";", "data.validation": 0.0, "trainer.max_epochs": 2, "data.batch_size": 6,
        "model.towers.video.transform.frames": 4, "model.towers.video.transform.size": 32,
    }  # fmt: skip
    run = mmalign.train(recipe, settings, out=tmp_path / "run")
    common = ["evaluate", str(tmp_path / "run"), "--task", "retrieval", "--split", "test", "--bootstrap", "0"]
    results = []
    for more in ([], ["--average", "video"]):
        assert main([*common, *more, "--json", str(tmp_path / "out.json")]) == 0
        results.append(json.loads((tmp_path / "out.json").read_text())["scores"]["video_to_text"])
    assert [result["n"] for result in results] == [12, 6]

    model = mmalign.load(run.bundle)
    names = [f"{tmp_path / f'{index}.npz'}#part={part}of2" for index in range(6) for part in (1, 2)]
    parts = model.encode("video", names).vector.double().view(6, 2, -1)
    videos = torch.nn.functional.normalize(torch.nn.functional.normalize(parts, dim=2).mean(1), dim=1)
    texts = torch.nn.functional.normalize(model.encode("text", list(TEXTS)).vector.double(), dim=1)
    scores = videos @ texts.T
    ranks = 1 + (scores > scores.diagonal()[:, None]).sum(1)
    assert results[1]["mrr"] == pytest.approx(float((1 / ranks).mean()))
