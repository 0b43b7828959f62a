"""The tiled losses beside open_clip's, forward and backward: time, and memory beyond what was held before.

    python tests/benchmarks/losses.py                      # 16,384 x 512, float32, two threads
    python tests/benchmarks/losses.py --rows 4096 --json losses.json

Time: both sides run in one process, in turn, so that what else the machine does meets both; the table has the ratio
of medians, of fastest runs, and of processor time. Memory: each side takes one step in a process of its own, and the
growth of its resident set at the highest point is read from the kernel (the gradients of the inputs are in it on both
sides).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn import functional as F

from mmalign.objectives.functional import clip_loss, siglip_loss

PAIRS = {"clip": ("CLIP", "open_clip ClipLoss"), "siglip": ("SigLIP", "open_clip SigLipLoss")}
BOUNDS = {"clip": 0.58, "siglip": 0.70, "memory": 1 / 20}


def inputs(rows: int, dim: int, scale: float) -> tuple[Tensor, ...]:
    """Unit vectors whose pairs are somewhat alike, and the learnt scalars."""
    torch.manual_seed(0)
    a = F.normalize(torch.randn(rows, dim), dim=1)
    b = F.normalize(torch.randn(rows, dim) + 8 * a, dim=1)
    leaves = (a, b, torch.tensor(scale), torch.tensor(-9.7))
    return tuple(leaf.requires_grad_() for leaf in leaves)


def losses() -> dict[str, Callable[..., Tensor]]:
    """By side and loss; all take (a, b, scale, bias)."""
    theirs = ClipLoss()
    return {
        "ours clip": lambda a, b, scale, bias: clip_loss(a, b, scale),
        "peer clip": lambda a, b, scale, bias: theirs(a, b, scale),
        "ours siglip": siglip_loss,
        "peer siglip": SigLipLoss(),
    }


def step(name: str, leaves: tuple[Tensor, ...]) -> tuple[float, float]:
    """Wall and processor seconds of one forward and backward."""
    for leaf in leaves:
        leaf.grad = None
    wall, processor = time.perf_counter(), time.process_time()
    losses()[name](*leaves).backward()
    return time.perf_counter() - wall, time.process_time() - processor


def growth(name: str, rows: int, dim: int, scale: float) -> int:
    """Bytes by which the resident set of this process grew at the highest point of one step."""
    step(name, inputs(64, dim, scale))
    leaves = inputs(rows, dim, scale)
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # the kernel forgets the highest point so far
    before = _highest()
    step(name, leaves)
    return _highest() - before


def _highest() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:5] == "VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def disagreement(loss: str, leaves: tuple[Tensor, ...]) -> float:
    """The largest difference between the sides' gradients of the vectors, over the largest gradient."""
    gradients = []
    for side in ("ours", "peer"):
        step(f"{side} {loss}", leaves)
        gradients.append(torch.cat([leaves[0].grad, leaves[1].grad]))
    return float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max())


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """One row a loss."""
    leaves = inputs(options.rows, options.dim, options.scale)
    rows = []
    for loss, (title, peer) in PAIRS.items():
        apart = disagreement(loss, leaves)  # also warms both sides up
        runs: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
        for _ in range(options.repeats):
            for side in runs:
                runs[side].append(step(f"{side} {loss}", leaves))
        wall = {side: [run[0] for run in of_side] for side, of_side in runs.items()}
        processor = {side: statistics.median(run[1] for run in of_side) for side, of_side in runs.items()}
        memory = {side: _in_own_process(f"{side} {loss}", options) for side in runs}
        rows.append(
            {
                "work": f"{title} loss, {options.rows:,} x {options.dim}, scale {options.scale:.3g}",
                "peer": peer,
                "ours_s": statistics.median(wall["ours"]),
                "peer_s": statistics.median(wall["peer"]),
                "time_ratio": statistics.median(wall["ours"]) / statistics.median(wall["peer"]),
                "fastest_ratio": min(wall["ours"]) / min(wall["peer"]),
                "processor_ratio": processor["ours"] / processor["peer"],
                "time_bound": BOUNDS[loss],
                "ours_mib": memory["ours"] / 2**20,
                "peer_mib": memory["peer"] / 2**20,
                "memory_ratio": memory["ours"] / memory["peer"],
                "memory_bound": BOUNDS["memory"],
                "gradient_difference": apart,
                "repeats": options.repeats,
                "threads": options.threads,
            }
        )
    return rows


def _in_own_process(name: str, options: argparse.Namespace) -> int:
    command = [sys.executable, __file__, "--memory-of", name, "--rows", str(options.rows), "--dim", str(options.dim)]
    command += ["--scale", str(options.scale), "--threads", str(options.threads)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(rows: list[dict[str, object]]) -> str:
    """Markdown."""
    lines = [
        "| work | peer | time | fastest | processor time | extra peak memory | seconds | MiB | gradients differ by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            "| {work} | {peer} | {time_ratio:.2f}x (<= {time_bound:.2f}) | {fastest_ratio:.2f}x | "
            "{processor_ratio:.2f}x | {memory_ratio:.3f}x (<= {memory_bound:.3f}) | {ours_s:.2f} / {peer_s:.2f} | "
            "{ours_mib:.0f} / {peer_mib:.0f} | {gradient_difference:.0e} |".format(**row)
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--scale", type=float, default=1 / 0.07)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(growth(options.memory_of, options.rows, options.dim, options.scale))
        return
    rows = measure(options)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
