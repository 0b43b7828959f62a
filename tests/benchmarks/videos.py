"""Trajectories beside space-time patches and frames, on simulated clips of moving shapes.

    python tests/benchmarks/videos.py --seeds 0 1 2                            # accuracy, then costs
    python tests/benchmarks/videos.py --methods vit3d --train 64 --test 40 --epochs 1 --seeds 0    # does it run at all
    python tests/benchmarks/videos.py --seeds --size 224                       # costs alone, at another size

Every method trains the recipe `video-text/vit3d` with its encoder in place of the recipe's: same text tower, objective,
data, width and depth. Task `appearance`: what moves, among 30 kinds. Task `order`: which order of events, among 8; two
clips of a pair have the same frames in opposite orders. `pair` is the fraction of clips whose own sentence has a higher
score than that of the reversed clip: 0.5 for an encoder without time, which prefers one of them for both clips.
Retrieval: the rank of the first sentence that is equal to the clip's own, or the reverse; ties count against.
Intervals: 95 % over resampled clips, or pairs of task `order`, of the mean over seeds. `tokens`: mean over clips.

Costs: one clip at a time on one thread, random weights, frames of one clip played forwards and backwards. Trajectories:
the time to make them. Memory: growth of the resident set of a process of its own, from decoded frames to the vector.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmalign
from mmalign.data.sources.base import SourceConfig
from mmalign.evaluation.metrics import bootstrap
from modalities.video import MODALITY
from modalities.video.sample import Clip, Tracks
from modalities.video.sources.shapes import ShapesSource

RECIPE = "video-text/vit3d"
RESAMPLES = 2000
WIDTH = {"width": 96, "depth": 2, "heads": 4}
CELLS = {**WIDTH, "cnn_width": 8, "frequencies": 4, "pool": "mean"}
"""Arguments of trajvit and trajtok; frequencies that fit frames of 64 pixels, as in the recipe `video-text/clip`."""

TOKENS = {**CELLS, "place": "box"}

TASKS = ("appearance", "order")
FRAMES = (16, 64, 256)


def patch(size: int) -> int:
    """Side of a patch: 16 pixels, as in the paper, from 112 pixels on."""
    return 16 if size >= 112 else 8 if size >= 48 else 4


def cell(size: int) -> int:
    """Side of a cell of trajvit and trajtok: 4 pixels, as in the paper, from 48 pixels on."""
    return 4 if size >= 48 else 2


def method(encoder: str, args: Mapping[str, Any], **transform: Any) -> dict[str, Any]:
    return {"encoder": encoder, "args": dict(args), "transform": transform}


METHODS: dict[str, dict[str, Any]] = {
    "trajvit masks": method("trajvit", TOKENS, tracks="masks"),
    "trajvit supervoxels": method("trajvit", TOKENS, tracks="supervoxels"),
    "trajvit flow": method("trajvit", TOKENS, tracks="flow"),
    "trajvit grid": method("trajvit", TOKENS, tracks="grid"),
    "trajtok": method("trajtok", CELLS),
    "vit3d": method("vit3d", {**WIDTH, "pool": "mean"}),
    "frames": method("frames", {"tower": "convnet", "args": {"width": 12}, "layers": 0, "pool": "mean"}),
}
REFERENCE = "vit3d"


def tower(name: str, frames: int, size: int) -> dict[str, Any]:
    """Encoder, its arguments and the transform's settings of a method."""
    found = METHODS[name]
    sides = {"vit3d": {"tubelet": [2, patch(size)]}, "trajtok": {"cell": cell(size)}}
    transform = {"frames": frames, "size": size, "cell": cell(size), **found["transform"]}
    return {**found, "args": found["args"] | sides.get(found["encoder"], {}), "transform": transform}


class Bench:
    """The clips of a task that are held out, the data settings of training, and the frames and pixels that are read."""

    def __init__(self, task: str, train: int, test: int, shape: tuple[int, int] = (16, 64)) -> None:
        self.shape = shape
        self.task, self.options = task, {"task": task, "train": train, "validation": 0, "test": test}
        source = ShapesSource(SourceConfig(source="shapes", options=self.options))
        held = [record for record in source.records() if record.split == "test"]
        self.clips = [MODALITY.read(source.fetch(record.values["video"][0])) for record in held]
        self.sentences = [record.values["text"][0] for record in held]
        self.labels = [record.labels[0] for record in held]
        self.classes = sorted(set(self.labels))
        order = task == "order"
        self.records = np.arange(len(held)) // (2 if order else 1)
        index = np.arange(len(held))
        self.reversed = np.where(index ^ 1 < len(held), index ^ 1, index) if order else None


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


def accuracy(
    bench: Bench, methods: Iterable[str], seeds: Sequence[int], epochs: int, more: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row for each method: every score, its interval, and its paired difference to the reference."""
    values: dict[str, dict[str, np.ndarray]] = {}
    rows = []
    for name in methods:
        runs, seconds = [], []
        for seed in seeds:
            model, took = train(bench, name, seed, epochs, more)
            runs.append(outcomes(bench, model))
            seconds.append(took)
            shown = "  ".join(f"{score} {value.mean():.3f}" for score, value in runs[-1].items())
            print(f"{bench.task}, {name}, seed {seed}: {shown}, {took:.0f} s", flush=True)
        values[name] = {score: np.mean([run[score] for run in runs], axis=0) for score in runs[0]}
        rows.append({"task": bench.task, "method": name, "clips": len(bench.clips), "seconds": float(np.mean(seconds))})
        rows[-1]["tokens"] = tokens(bench, name)
        rows[-1] |= {"seeds": {score: [float(run[score].mean()) for run in runs] for score in runs[0]}}
    for row in rows:
        own = values[row["method"]]
        row["scores"] = {score: [float(own[score].mean()), *interval(own[score], bench)] for score in own}
        if REFERENCE in values and row["method"] != REFERENCE:
            apart = {score: own[score] - values[REFERENCE][score] for score in own}
            row["minus_reference"] = {s: [float(v.mean()), *interval(v, bench)] for s, v in apart.items()}
    return rows


def interval(values: np.ndarray, bench: Bench) -> tuple[float, float]:
    """95 % percentile interval of a mean."""
    ((low, high),) = bootstrap.means(values[:, None], bench.records, resamples=RESAMPLES, seed=0)
    return low, high


def tokens(bench: Bench, name: str, clips: int = 50) -> float:
    """Mean number of tokens of the first held-out clips."""
    transform, encoder = build(name, tower(name, *bench.shape)["transform"])
    items = [transform(transform.featurise(clip)) for clip in bench.clips[:clips]]
    with torch.inference_mode():
        return float(np.mean([count(encoder(transform.collate([item]))) for item in items]))


def build(name: str, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Transform and encoder of a method, with random weights."""
    wanted = METHODS[name]["encoder"], tower(name, settings["frames"], settings["size"])["args"]
    transform = MODALITY.transform(*wanted, **settings)
    return transform, MODALITY.encoders[wanted[0]](transform, **wanted[1]).eval()


def count(features: Any) -> int:
    """Tokens that an encoder's layers read of a batch: trajectories, else patches or frames."""
    return int((features.tokens if features.parts is None else features.parts).mask.sum())


def long_clip(frames: int) -> Clip:
    """A clip of this many frames: a simulated one, forwards and backwards in turn."""
    source = ShapesSource(SourceConfig(source="shapes", options={"train": 8}))
    clip = MODALITY.read(source.fetch("3.npz"))
    assert clip.tracks is not None
    there = np.arange(len(clip))
    turns = np.resize(np.concatenate([there, there[-2:0:-1]]), frames)
    return Clip(clip.frames[turns], clip.rate, Tracks.from_labels(clip.tracks.labels[turns]))


def cost(name: str, frames: int, size: int, repeats: int) -> dict[str, float]:
    """Tokens, seconds and memory of one clip; for a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = tower(name, frames, size)["transform"]

    def run(transform: Any, encoder: Any, clip: Clip) -> tuple[Any, float, float]:
        start = time.process_time()
        item = transform(transform.featurise(clip))
        middle = time.process_time()
        with torch.inference_mode():
            features = encoder(transform.collate([item]))
        return features, middle - start, time.process_time() - middle

    small = build(name, {**settings, "frames": 4})
    run(*small, long_clip(4))  # libraries load what they load
    clip, (transform, encoder) = long_clip(frames), build(name, settings)
    before = highest(reset=True)
    features, *_ = run(transform, encoder, clip)
    memory = highest() - before
    runs = [run(transform, encoder, clip)[1:] for _ in range(repeats)]
    plain = MODALITY.transform("vit3d", {}, frames=frames, size=size)
    starts = []
    for _ in range(repeats):
        start = time.process_time()
        plain.featurise(clip)
        starts.append(time.process_time() - start)
    prepared, forward = (float(np.median(column)) for column in zip(*runs, strict=True))
    return {
        "frames": frames,
        "tokens": count(features),
        "trajectories_s": max(prepared - float(np.median(starts)), 0.0) if "tracks" in settings else 0.0,
        "encoder_s": forward,
        "total_s": prepared + forward,
        "memory_mib": memory / 2**20,
    }


def highest(*, reset: bool = False) -> int:
    """The highest resident set of this process in bytes, since the last reset where the system can forget it."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    if reset:
        clear.write_text("5")
    return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:5] == "VmHWM")


def costs(methods: Iterable[str], frames: Iterable[int], size: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each method and number of frames, each measured in a process of its own."""
    rows = []
    for name in methods:
        for number in frames:
            own = ["--cost-of", name, "--frames", str(number), "--size", str(size), "--repeats", str(repeats)]
            command = [sys.executable, "-m", "tests.benchmarks.videos", *own]
            root = Path(__file__).parents[2]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
            rows.append({"method": name, "size": size, **json.loads(done.stdout)})
    return rows


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracy_table(rows: Iterable[Mapping[str, Any]]) -> str:
    shown = []
    for row in rows:
        cells = {"task": row["task"], "method": row["method"]}
        cells |= {score: "{:.3f} ({:.3f} to {:.3f})".format(*value) for score, value in row["scores"].items()}
        if "minus_reference" in row:
            value = row["minus_reference"]["zero-shot"]
            cells[f"zero-shot minus {REFERENCE}"] = "{:+.3f} ({:+.3f} to {:+.3f})".format(*value)
        cells["tokens"] = f"{row['tokens']:.0f}"
        shown.append(cells | {"training, processor s": f"{row['seconds']:.0f}"})
    return table(shown)


def cost_table(rows: Iterable[Mapping[str, Any]]) -> str:
    return table(
        [
            {
                "method": row["method"],
                "frames": f"{row['frames']} x {row['size']}",
                "tokens": f"{row['tokens']:.0f}",
                "trajectories": f"{1000 * row['trajectories_s']:.0f} ms",
                "encoder": f"{1000 * row['encoder_s']:.0f} ms",
                "all": f"{1000 * row['total_s']:.0f} ms",
                "memory": f"{row['memory_mib']:.0f} MiB",
            }
            for row in rows
        ]
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Print the tables and, where asked, write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="none: costs alone")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train", type=int, default=2000, help="number of training clips")
    parser.add_argument("--test", type=int, default=500, help="number of held-out clips")
    parser.add_argument(
        "--input", nargs=2, type=int, default=(16, 64), metavar=("FRAMES", "PIXELS"), help="of training and accuracy"
    )
    parser.add_argument("--set", type=json.loads, default={}, help='settings of all runs: {"data.batch_size": 32}')
    parser.add_argument("--threads", type=int, default=1, help="of torch, in training")
    parser.add_argument(
        "--frames", nargs="*", type=int, default=list(FRAMES), help="of the costs; none: accuracy alone"
    )
    parser.add_argument("--size", type=int, default=64, help="side of the frames of the costs, in pixels")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the costs are the median")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cost-of", choices=list(METHODS), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.cost_of:
        print(json.dumps(cost(asked.cost_of, asked.frames[0], asked.size, asked.repeats)))
        return {}
    torch.set_num_threads(asked.threads)
    result: dict[str, Any] = {"accuracy": [], "costs": []}
    for task in asked.tasks if asked.seeds else ():
        bench = Bench(task, asked.train, asked.test, tuple(asked.input))
        result["accuracy"] += accuracy(bench, asked.methods, asked.seeds, asked.epochs, asked.set)
    if result["accuracy"]:
        print(accuracy_table(result["accuracy"]), flush=True)
    result["costs"] = costs(asked.methods, asked.frames, asked.size, asked.repeats)
    if result["costs"]:
        print(cost_table(result["costs"]))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
