"""Tokens, processor time and memory of one clip, for each encoder of `video_methods`.

    python tests/benchmarks/video_costs.py
    python tests/benchmarks/video_costs.py --methods "trajvit supervoxels" vit3d --frames 16 --size 224
    python tests/benchmarks/video_costs.py --frames 16 --size 224 --clips *.mp4

One clip at a time on one thread, random weights, frames of one simulated clip played forwards and backwards.
Trajectories: the time to make them. Memory: growth of the resident set of a process of its own, from decoded frames to
the vector.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import table
from video_methods import METHODS, build, count, tower

from mmalign.data.sources.base import SourceConfig
from modalities.video import MODALITY
from modalities.video.sample import Clip, Tracks
from modalities.video.sources.shapes import ShapesSource


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
            done = subprocess.run([sys.executable, __file__, *own], check=True, stdout=subprocess.PIPE, text=True)
            rows.append({"method": name, "size": size, **json.loads(done.stdout)})
    return rows


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


def trajectories(files: Iterable[Path], frames: int, size: int) -> list[dict[str, Any]]:
    """The number of supervoxels of each clip, with the settings of the transform of `trajvit`."""
    transform = MODALITY.transform("trajvit", {}, frames=frames, size=size)
    return [
        {"clip": file.name, "tokens": int(transform.featurise(MODALITY.read(file))["tracks"].max())} for file in files
    ]


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table and, where asked, write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--frames", nargs="+", type=int, default=[16, 64, 256])
    parser.add_argument("--size", type=int, default=64, help="side of the frames, in pixels")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the times are the median")
    parser.add_argument("--clips", nargs="+", type=Path, help="print the number of supervoxels of these clips alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cost-of", choices=list(METHODS), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.cost_of:
        print(json.dumps(cost(asked.cost_of, asked.frames[0], asked.size, asked.repeats)))
        return []
    if asked.clips:
        rows = trajectories(asked.clips, asked.frames[0], asked.size)
        print(table([{"clip": row["clip"], "supervoxels": str(row["tokens"])} for row in rows]))
        return rows
    rows = costs(asked.methods, asked.frames, asked.size, asked.repeats)
    print(cost_table(rows))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main()
