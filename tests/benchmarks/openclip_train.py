"""Side by side with `open_clip_train`: same towers, data, optimiser, epochs, batch size and seeds.

    python tests/benchmarks/openclip_train.py --data eurosat --seeds 3 --out table.json

Prints a Markdown table a data set and writes every figure as JSON. See README.md in this folder.
"""

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from figures import Scores, difference, interval, rate, retrieval, table, zero_shot
from prepared import Prepared, prepare
from sides import Recipe, Train, Trained, mmalign, mmalign_by_content, open_clip, unit_rows

PEER = "open_clip_train"
SIDES: dict[str, Train] = {PEER: open_clip, "mmalign": mmalign, "mmalign, positives: content": mmalign_by_content}
EPOCHS = {"eurosat": 6, "emoji": 10}
# Emoji names are all different: equal captions cannot be positives of each other, the third row would be the second.
ROWS = {"eurosat": list(SIDES), "emoji": [PEER, "mmalign"]}
WARMUP = {"eurosat": 20, "emoji": 9}
HEADLINE = {"eurosat": "top1", "emoji": "hit@10"}
MEANING = {
    "eurosat": "zero-shot top-1 on the validation split, class words as text",
    "emoji": "hit@10, mean of both directions, among the names (pictures) of held-out base emoji",
}


def measure(data: Prepared, trained: Trained) -> Scores:
    """Held-out quality from embeddings, by the same code for every program."""
    pictures = [row.filepath for row in data.held_out]
    captions = [row.caption for row in data.held_out]
    if data.name == "emoji":
        seen, said = map(unit_rows, trained.encode(pictures, captions))
        return retrieval(seen, said, [row.group for row in data.held_out])
    classes = sorted(set(captions))
    seen, said = map(unit_rows, trained.encode(pictures, classes))
    return zero_shot(seen, said, np.array([classes.index(caption) for caption in captions]))


@dataclass(frozen=True)
class Measured:
    """One program, one seed.

    Args:
        scores: Held-out quality.
        rate: Training samples a second.
        processor_rate: The same by processor time: on a machine with other work it says more than the clock does.
        seconds: The whole process.
    """

    scores: Scores
    rate: float
    processor_rate: float
    seconds: float


def side_by_side(data: Prepared, recipe: Recipe, *, sides: list[str], seeds: int, scratch: Path) -> dict[str, Any]:
    """Train every program once a seed, in turn (A B C, B C A, C A B), and gather the figures."""
    runs: dict[str, list[Measured]] = {side: [] for side in sides}
    name = HEADLINE[data.name]
    for seed in range(seeds):
        turn = seed % len(sides)
        for side in [*sides[turn:], *sides[:turn]]:
            trained = SIDES[side](data, recipe, seed, scratch / f"{data.name}-{sides.index(side)}-{seed}")
            run = _measured(data, recipe, trained)
            runs[side].append(run)
            line = f"{name} {run.scores.mean(name):.4f}, {run.rate:.1f} samples/s, {run.seconds:.0f} s in all"
            print(f"{data.name} seed {seed} {side}: {line}", file=sys.stderr, flush=True)
    return {
        "data": data.name,
        "quality": MEANING[data.name],
        "train_rows": data.train_rows,
        "held_out_rows": len(data.held_out),
        "recipe": asdict(recipe),
        "sides": {side: _summary(runs[side], runs.get(PEER) if side != PEER else None) for side in sides},
    }


def _measured(data: Prepared, recipe: Recipe, trained: Trained) -> Measured:
    steps = data.train_rows // recipe.batch_size
    taken = len(trained.ends["wall"])
    if taken != steps * recipe.epochs:
        raise RuntimeError(f"{taken} optimiser steps were taken, expected {steps * recipe.epochs}: not the same work")
    rates = {
        kind: rate(trained.ends[kind], steps=steps, batch_size=recipe.batch_size) for kind in ("wall", "processor")
    }
    return Measured(measure(data, trained), rates["wall"], rates["processor"], trained.seconds)


def _summary(runs: list[Measured], peer: list[Measured] | None) -> dict[str, Any]:
    scores = [run.scores for run in runs]
    names = scores[0].outcomes
    summary: dict[str, Any] = {
        "seeds": len(runs),
        "scores": {
            name: {
                "mean": float(np.mean([one.mean(name) for one in scores])),
                "ci": interval(scores, name),
                "by_seed": [one.mean(name) for one in scores],
            }
            for name in names
        },
        "samples_per_s": [run.rate for run in runs],
        "samples_per_processor_s": [run.processor_rate for run in runs],
        "process_seconds": [run.seconds for run in runs],
    }
    if peer:
        pairs = list(zip(runs, peer, strict=True))
        summary["rate_ratio"] = [ours.rate / theirs.rate for ours, theirs in pairs]
        summary["processor_rate_ratio"] = [ours.processor_rate / theirs.processor_rate for ours, theirs in pairs]
        summary["difference"] = {}
        for name in names:
            mean, low, high = difference(scores, [run.scores for run in peer], name)
            summary["difference"][name] = {"mean": mean, "ci": [low, high], "not_below": high >= 0}
    return summary


def rows(result: dict[str, Any]) -> list[dict[str, str]]:
    """One line a program."""
    name = HEADLINE[result["data"]]
    lines = []
    for side, summary in result["sides"].items():
        score, gap = summary["scores"][name], summary.get("difference", {}).get(name)
        lines.append(
            {
                "program": side,
                f"{name} [95 %]": f"{score['mean']:.3f} [{score['ci'][0]:.3f}, {score['ci'][1]:.3f}]",
                "minus the peer [95 %]": f"{gap['mean']:+.3f} [{gap['ci'][0]:+.3f}, {gap['ci'][1]:+.3f}]"
                if gap
                else "",
                "samples/s": f"{np.median(summary['samples_per_s']):.0f}",
                "ratio by seed": _ratios(summary, "rate_ratio"),
                "by processor time": _ratios(summary, "processor_rate_ratio"),
                "whole process, s": f"{np.median(summary['process_seconds']):.0f}",
                "n": f"{result['held_out_rows']} x {summary['seeds']} seeds",
            }
        )
    return lines


def _ratios(summary: dict[str, Any], kind: str) -> str:
    return " ".join(f"{one:.2f}" for one in summary.get(kind, []))


def provenance() -> dict[str, Any]:
    """What the figures depend on beside the code."""
    versions = {}
    for package in ("mmalign", "open_clip_torch", "torch", "timm", "pytorch-lightning", "numpy", "pillow"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def main() -> int:
    """Parse flags, run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=[*EPOCHS, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help=f"default: {EPOCHS}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="of the data loader, for both programs")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), help="default: all that differ")
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed: does it run at all")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--keep", type=Path, help="keep runs and prepared data in this new folder")
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # open_clip warns of weights that it will be given one line later
    seeds = 1 if given.quick else given.seeds
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = given.keep or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        for name in EPOCHS if given.data == "all" else [given.data]:
            epochs = 1 if given.quick else given.epochs or EPOCHS[name]
            recipe = Recipe(epochs, warmup=WARMUP[name], threads=given.threads, workers=given.workers)
            data = prepare(name, scratch)
            result = side_by_side(data, recipe, sides=given.sides or ROWS[name], seeds=seeds, scratch=scratch)
            results.append(result)
            print(f"\n{name}: {MEANING[name]}\n\n{table(rows(result))}\n", flush=True)
    if given.out:
        given.out.write_text(json.dumps({"tables": results, "provenance": provenance()}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
