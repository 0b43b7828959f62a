"""Trajectories beside space-time patches and frames, on simulated clips of moving shapes.

    python tests/benchmarks/videos.py --seeds 0 1 2
    python tests/benchmarks/videos.py --methods vit3d --train 64 --test 40 --epochs 1 --seeds 0    # does it run at all
    python tests/benchmarks/videos.py --tasks order --methods vit3d --seeds 1 --json runs/order-vit3d-1.json
    python tests/benchmarks/videos.py --join runs/*.json                       # one table of runs made apart

Every method trains the recipe `video-text/vit3d` with its encoder in place of the recipe's: same text tower, objective,
data, width and depth. Task `appearance`: what moves, among 30 kinds. Task `order`: which order of events, among 8; two
clips of a pair have the same frames in opposite orders. `pair` is the fraction of clips whose own sentence has a higher
score than that of the reversed clip: 0.5 for an encoder without time, which prefers one of them for both clips.
Retrieval: the rank of the first sentence that is equal to the clip's own, or the reverse; ties count against.
Intervals: 95 % over resampled clips, or pairs of task `order`, of the mean over seeds. `tokens`: mean over clips.
`--draw` is the seed of the simulator: another one draws other training and other held-out clips.

Costs of one clip: `video_costs.py`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import table
from video_methods import METHODS, REFERENCE, build, count, tower

import mmalign
from mmalign.data.sources.base import SourceConfig
from mmalign.evaluation.metrics import bootstrap
from modalities.video import MODALITY
from modalities.video.sources.shapes import ShapesSource

RECIPE = "video-text/vit3d"
RESAMPLES = 2000
TASKS = ("appearance", "order")


class Bench:
    """The clips of a task that are held out, the data settings of training, and the frames and pixels that are read."""

    def __init__(self, task: str, train: int, test: int, shape: tuple[int, int] = (16, 64), draw: int = 0) -> None:
        self.shape, self.task = shape, task
        self.options = {"task": task, "train": train, "validation": 0, "test": test, "seed": draw}
        source = ShapesSource(SourceConfig(source="shapes", options=self.options))
        held = [record for record in source.records() if record.split == "test"]
        self.clips = [MODALITY.read(source.fetch(record.values["video"][0])) for record in held]
        self.sentences = [record.values["text"][0] for record in held]
        self.labels = [record.labels[0] for record in held]
        self.classes = sorted(set(self.labels))
        index = np.arange(len(held))
        self.reversed = np.where(index ^ 1 < len(held), index ^ 1, index) if task == "order" else None


def train(bench: Bench, name: str, seed: int, epochs: int, more: Mapping[str, Any]) -> tuple[mmalign.Aligner, float]:
    """A trained model, and the processor time that training took, in seconds."""
    settings: dict[str, Any] = {
        "data.source": "shapes", "data.options": bench.options, "data.validation": 0.0, "seed_everything": seed,
        "trainer.max_epochs": epochs, "trainer.accelerator": "cpu",
    }  # fmt: skip
    settings |= {f"model.towers.video.{key}": value for key, value in tower(name, *bench.shape).items()}
    settings |= more  # last: a key of `args` overrides that of the method
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model = mmalign.load(mmalign.train(RECIPE, settings, out=f"{folder}/run").bundle)
    return model, time.process_time() - start


def outcomes(bench: Bench, model: mmalign.Aligner) -> dict[str, np.ndarray]:
    """Score -> the outcome of every held-out clip."""
    clips = model.encode("video", bench.clips)
    classes = model.similarity(clips, model.encode("text", bench.classes)).numpy()
    truth = np.array([bench.classes.index(label) for label in bench.labels])
    texts = sorted(set(bench.sentences))
    own = np.array([texts.index(sentence) for sentence in bench.sentences])
    scores = model.similarity(clips, model.encode("text", texts)).numpy()
    relevant = own[:, None] == np.arange(len(texts))
    forth = ranks(scores, relevant)
    back = ranks(scores.T, relevant.T)[own]
    found = {
        "zero-shot": (ranks(classes, truth[:, None] == np.arange(len(bench.classes))) == 0).astype(float),
        "video-text hit@10": (forth < 10).astype(float),
        "text-video hit@10": (back < 10).astype(float),
        "MRR": (1 / (1 + forth) + 1 / (1 + back)) / 2,
    }
    if bench.reversed is not None:
        rows = np.arange(len(own))
        found["pair"] = (scores[rows, own] > scores[rows, own[bench.reversed]]).astype(float)
    return found


def ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """0-based rank of the best relevant column of each row; irrelevant columns of an equal score stand before it."""
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True)
    return np.asarray(((scores >= best) & ~relevant).sum(1))


def run(bench: Bench, name: str, seed: int, epochs: int, more: Mapping[str, Any]) -> dict[str, Any]:
    """One training run, and its outcome for every held-out clip."""
    model, seconds = train(bench, name, seed, epochs, more)
    scores = outcomes(bench, model)
    shown = "  ".join(f"{score} {value.mean():.3f}" for score, value in scores.items())
    print(f"{bench.task}, {name}, seed {seed}: {shown}, {seconds:.0f} s", flush=True)
    return {
        "task": bench.task, "method": name, "seed": seed, "seconds": seconds, "tokens": tokens(bench, name),
        "outcomes": {score: value.tolist() for score, value in scores.items()},
    }  # fmt: skip


def accuracy(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task and method: the mean over seeds, its interval, and its paired difference to the reference."""
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in runs:
        cells.setdefault((one["task"], one["method"]), []).append(one)
    means = {cell: mean_outcomes(own) for cell, own in cells.items()}
    rows = []
    for (task, method), own in cells.items():
        values = means[task, method]
        row: dict[str, Any] = {"task": task, "method": method, "seeds": [one["seed"] for one in own]}
        row["clips"] = len(next(iter(values.values())))
        row |= {key: float(np.mean([one[key] for one in own])) for key in ("seconds", "tokens")}
        row["per_seed"] = {score: [float(np.mean(one["outcomes"][score])) for one in own] for score in values}
        row["scores"] = {score: [float(value.mean()), *interval(value, task)] for score, value in values.items()}
        if (task, REFERENCE) in means and method != REFERENCE:
            apart = {score: value - means[task, REFERENCE][score] for score, value in values.items()}
            row["minus_reference"] = {s: [float(v.mean()), *interval(v, task)] for s, v in apart.items()}
        rows.append(row)
    return rows


def mean_outcomes(runs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Score -> the outcome of each held-out clip, averaged over seeds."""
    return {score: np.mean([one["outcomes"][score] for one in runs], axis=0) for score in runs[0]["outcomes"]}


def interval(values: np.ndarray, task: str) -> tuple[float, float]:
    """95 % percentile interval of a mean; the two clips of a pair of task `order` are drawn together."""
    records = np.arange(len(values)) // (2 if task == "order" else 1)
    ((low, high),) = bootstrap.means(values[:, None], records, resamples=RESAMPLES, seed=0)
    return low, high


def joined(files: Iterable[Path]) -> dict[str, Any]:
    """The runs of several result files, which must have equal settings, and no run twice."""
    found = [(path, json.loads(path.read_text())) for path in files]
    (first, result), *others = found
    for path, other in others:
        if other["settings"] != result["settings"]:
            raise SystemExit(f"{path} has the settings {other['settings']}, {first} has {result['settings']}")
    runs = [one for _, part in found for one in part["runs"]]
    names = [(one["task"], one["method"], one["seed"]) for one in runs]
    if len(set(names)) < len(names):
        raise SystemExit(f"runs that occur twice: {sorted({name for name in names if names.count(name) > 1})}")
    return {"settings": result["settings"], "runs": runs}


def tokens(bench: Bench, name: str, clips: int = 50) -> float:
    """Mean number of tokens of the first held-out clips."""
    transform, encoder = build(name, tower(name, *bench.shape)["transform"])
    items = [transform(transform.featurise(clip)) for clip in bench.clips[:clips]]
    with torch.inference_mode():
        return float(np.mean([count(encoder(transform.collate([item]))) for item in items]))


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown; a score that a task does not have is an empty cell."""
    shown = []
    for row in rows:
        cells = {"task": row["task"], "method": row["method"], "seeds": str(len(row["seeds"]))}
        for score in dict.fromkeys(score for other in rows for score in other["scores"]):
            value = row["scores"].get(score)
            cells[score] = "{:.3f} ({:.3f} to {:.3f})".format(*value) if value else ""
        value = row.get("minus_reference", {}).get("zero-shot")
        cells[f"zero-shot minus {REFERENCE}"] = "{:+.3f} ({:+.3f} to {:+.3f})".format(*value) if value else ""
        cells["tokens"] = f"{row['tokens']:.0f}"
        shown.append(cells | {"training, processor s": f"{row['seconds']:.0f}"})
    return table(shown)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Print the table and, where asked, write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train", type=int, default=2000, help="number of training clips")
    parser.add_argument("--test", type=int, default=500, help="number of held-out clips")
    parser.add_argument("--draw", type=int, default=0, help="seed of the simulator")
    parser.add_argument("--input", nargs=2, type=int, default=(16, 64), metavar=("FRAMES", "PIXELS"))
    parser.add_argument("--set", type=json.loads, default={}, help='settings of all runs: {"data.batch_size": 32}')
    parser.add_argument("--threads", type=int, default=1, help="of torch, in training")
    parser.add_argument("--json", type=Path, help="write settings, outcomes of every clip, and the table's figures")
    parser.add_argument("--join", nargs="+", type=Path, help="files of --json: train nothing, and print one table")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    if asked.join:
        result = joined(asked.join)
    else:
        names = ("epochs", "train", "test", "draw", "input", "set")
        settings = {name: getattr(asked, name) for name in names} | {"input": list(asked.input)}
        benches = [Bench(task, asked.train, asked.test, tuple(asked.input), asked.draw) for task in asked.tasks]
        cells = ((bench, name, seed) for bench in benches for name in asked.methods for seed in asked.seeds)
        result = {"settings": settings, "runs": [run(*cell, asked.epochs, asked.set) for cell in cells]}
    result["accuracy"] = accuracy(result["runs"])
    print(accuracy_table(result["accuracy"]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
