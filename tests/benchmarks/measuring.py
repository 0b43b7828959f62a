"""One piece of work done by two sides, forward and backward: time, memory beyond what was held before, agreement.

Time: both sides run in one process, in turn, so that what else the machine does meets both; the ratios are of medians,
of fastest runs, and of medians of processor time.

Memory: each side takes one step in a process of its own, and the growth of its resident set at the highest point is
read from the kernel (the gradients of the inputs are in it on both sides). In these processes glibc gives every large
block back when it is freed. It would otherwise keep a heap of holes, and the figure would tell how they happened to
fall: by a third more or less from process to process.

Agreement: of each input's gradient, the largest difference over the largest entry; the worst input counts.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from figures import table as markdown
from torch import Tensor

Leaves = tuple[Tensor, ...]
SIDES = ("ours", "peer")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        work: What is done, with its sizes.
        peer: What it is compared with.
        inputs: Makes the tensors that gradients are taken of, the same ones at every call.
        ours: The inputs -> a scalar.
        theirs: The same scalar by the peer.
        time: Largest ratio of times that is wanted.
        memory: Largest ratio of extra peak memory that is wanted.
    """

    work: str
    peer: str
    inputs: Callable[[], Leaves]
    ours: Callable[..., Tensor]
    theirs: Callable[..., Tensor]
    time: float
    memory: float


# A row in its full size, or (True) in one that takes no time.
Rows = Mapping[str, Callable[[bool], Row]]


def step(row: Row, side: str, leaves: Leaves) -> tuple[float, float]:
    """Wall and processor seconds of one forward and backward."""
    for leaf in leaves:
        leaf.grad = None
    loss = row.ours if side == "ours" else row.theirs
    wall, processor = time.perf_counter(), time.process_time()
    loss(*leaves).backward()
    return time.perf_counter() - wall, time.process_time() - processor


def disagreement(row: Row, leaves: Leaves) -> float:
    """The largest difference between the sides' gradients of an input, over its largest gradient: the worst input."""
    gradients: dict[str, list[Tensor | None]] = {}
    for side in SIDES:
        step(row, side, leaves)
        gradients[side] = [leaf.grad for leaf in leaves]
    worst = 0.0
    for ours, theirs in zip(gradients["ours"], gradients["peer"], strict=True):
        if ours is None or theirs is None:  # CLIP has no bias
            if ours is not theirs:
                raise ValueError(f"{row.work}: one side alone has a gradient of some input")
            continue
        worst = max(worst, float((ours - theirs).abs().max() / theirs.abs().max()))
    return worst


def growth(build: Callable[[bool], Row], side: str, quick: bool) -> int:
    """Bytes by which the resident set of this process grew at the highest point of one step."""
    small = build(True)
    step(small, side, small.inputs())  # libraries load what they load
    row = build(quick)
    leaves = row.inputs()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # the kernel forgets the highest point so far
    before = _highest()
    step(row, side, leaves)
    return _highest() - before


def _highest() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:5] == "VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def measure(row: Row, memory: Mapping[str, int], repeats: int) -> dict[str, object]:
    """The row's figures; `memory` holds each side's `growth`."""
    leaves = row.inputs()
    apart = disagreement(row, leaves)  # also warms both sides up
    runs: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for _ in range(repeats):
        for side in SIDES:
            runs[side].append(step(row, side, leaves))
    wall = {side: [run[0] for run in runs[side]] for side in SIDES}
    processor = {side: statistics.median(run[1] for run in runs[side]) for side in SIDES}
    seconds = {side: statistics.median(wall[side]) for side in SIDES}
    return {
        "work": row.work,
        "peer": row.peer,
        "ours_s": seconds["ours"],
        "peer_s": seconds["peer"],
        "time_ratio": seconds["ours"] / seconds["peer"],
        "fastest_ratio": min(wall["ours"]) / min(wall["peer"]),
        "processor_ratio": processor["ours"] / processor["peer"],
        "time_bound": row.time,
        "ours_mib": memory["ours"] / 2**20,
        "peer_mib": memory["peer"] / 2**20,
        "memory_ratio": memory["ours"] / max(memory["peer"], 1),
        "memory_bound": row.memory,
        "gradient_difference": apart,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown."""

    def ratio(row: Mapping[str, object], kind: str) -> str:
        value, bound = float(str(row[f"{kind}_ratio"])), float(str(row[f"{kind}_bound"]))
        return f"{value:.3f}x ({'<=' if value <= bound else 'MISSED:'} {bound:.3g})"

    return markdown(
        [
            {
                "work, forward and backward": str(row["work"]),
                "peer": str(row["peer"]),
                "time": ratio(row, "time"),
                "fastest": "{fastest_ratio:.3f}x".format(**row),
                "processor time": "{processor_ratio:.3f}x".format(**row),
                "extra peak memory": ratio(row, "memory"),
                "seconds": "{ours_s:.3g} / {peer_s:.3g}".format(**row),
                "MiB": "{ours_mib:.0f} / {peer_mib:.0f}".format(**row),
                "gradients differ by": "{gradient_difference:.0e}".format(**row),
            }
            for row in rows
        ]
    )


def main(
    description: str, script: str, builders: Rows, arguments: Sequence[str] | None = None
) -> list[dict[str, object]]:
    """Measure, print, and write where asked.

    Args:
        description: What `--help` says.
        script: The file that calls this, run again for each measurement of memory.
        builders: The rows by name.
        arguments: The command line's.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=builders, metavar="NAME", help=f"one row: {', '.join(builders)}")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all; the ratios mean nothing")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(growth(builders[options.only], options.memory_of, options.quick))
        return []
    rows = []
    for name in [options.only] if options.only else builders:
        command = [sys.executable, script, "--only", name, "--threads", str(options.threads)]
        command += ["--quick"] * options.quick
        memory = {side: _output([*command, "--memory-of", side]) for side in SIDES}
        rows.append(measure(builders[name](options.quick), memory, options.repeats))
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return rows


def _output(command: Sequence[str]) -> int:
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**17)}
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)
