"""Sinkhorn over a batch of small problems beside POT's, each stopped at the same error of the marginals: time.

    python tests/benchmarks/transport.py                      # every row; two threads
    python tests/benchmarks/transport.py --only masked
    python tests/benchmarks/transport.py --threads 1 --repeats 9 --json transport.json
    python tests/benchmarks/transport.py --quick              # tiny sizes: does it run at all

256 problems of 64 x 32, the cosine costs of random unit vectors, epsilon 0.05. Both sides run in one process, in turn;
the ratios are of medians, of fastest runs, and of medians of processor time. `ours` is stopped by its tolerance.
`ot.batch.solve_batch` (float32, log domain) looks at its error every tenth iteration, so it is given exactly as many
iterations as its worst problem needs; `ot.sinkhorn` (float64, NumPy) runs once a problem with its own stop. Errors are
the worst problem's, rows and columns together, L1. POT comes by `pip install POT`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ot
import torch
from figures import table as markdown
from ot.batch import solve_batch
from torch import Tensor
from torch.nn import functional as F

from mmalign.objectives.functional import sinkhorn

EPSILON, ERROR = 0.05, 1e-3


@dataclass(frozen=True)
class Problem:
    """A batch: cost `(batch, n, m)`, masses `(batch, n)` and `(batch, m)`, zero where padded, and masks if any is."""

    cost: Tensor
    a: Tensor
    b: Tensor
    masks: dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """One line of the table: both sides give their plans, whose error is measured.

    Args:
        work: What is done, with its sizes.
        peer: What it is compared with.
        problem: The batch.
        ours: Solves it.
        theirs: Solves it to the same error.
        bound: Largest ratio of times that is wanted.
    """

    work: str
    peer: str
    problem: Problem
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    bound: float


def batch(quick: bool, *, masked: bool) -> Problem:
    """Random unit vectors; masked: between an eighth (rows) or two (columns) and all of the places are real."""
    torch.manual_seed(0)
    count, n, m = (8, 16, 8) if quick else (256, 64, 32)
    tokens, parts = (F.normalize(torch.randn(count, size, 64), dim=2) for size in (n, m))
    cost = 1 - tokens @ parts.mT
    rows = torch.arange(n) < torch.randint(n // 8, n + 1, (count, 1))
    columns = torch.arange(m) < torch.randint(2, m + 1, (count, 1))
    if not masked:
        rows, columns = torch.ones_like(rows), torch.ones_like(columns)
    a, b = (mask / mask.sum(1, keepdim=True) for mask in (rows, columns))
    return Problem(cost, a, b, {"mask_a": rows, "mask_b": columns} if masked else {})


def error(problem: Problem, plan: Tensor) -> float:
    """L1 distance of both marginals from what they should be, of the worst problem."""
    apart = (plan.sum(2) - problem.a).abs().sum(1) + (plan.sum(1) - problem.b).abs().sum(1)
    return float(apart.max())


def iterations(problem: Problem) -> int:
    """The fewest with which every one of POT's plans is right."""
    for count in range(1, 1000):
        if error(problem, _solve_batch(problem, count)) <= ERROR:
            return count
    raise ValueError("POT's plans did not come right")


def plain(quick: bool) -> Row:
    """Every place is real."""
    return _beside_batch("Sinkhorn", batch(quick, masked=False), 0.67)


def masked(quick: bool) -> Row:
    """POT has no masks: padded places have zero weight, which comes to the same plan."""
    return _beside_batch("Sinkhorn, sizes drawn, masks", batch(quick, masked=True), 0.5)


def loop(quick: bool) -> Row:
    """POT's usual way, one problem after another. Its stop is on the L2 error, looked at every tenth iteration."""
    problem = batch(quick, masked=False)
    costs, stop = problem.cost.double().numpy(), ERROR / problem.b.shape[1] ** 0.5

    def theirs() -> Tensor:
        a, b = (np.full(size, 1 / size) for size in costs.shape[1:])
        plans = [ot.sinkhorn(a, b, cost, EPSILON, stopThr=stop) for cost in costs]
        return torch.from_numpy(np.stack(plans))

    work = f"Sinkhorn, {_sizes(problem)}"
    return Row(work, "ot.sinkhorn in a loop, NumPy", problem, lambda: _ours(problem), theirs, 1 / 20)


def value(quick: bool) -> Row:
    """Forward and backward of the regularised cost; both differentiate it as at the optimum."""
    problem = batch(quick, masked=False)
    count = iterations(problem)

    def ours() -> Tensor:
        cost = problem.cost.clone().requires_grad_()
        sinkhorn(cost, EPSILON, tolerance=ERROR, gradient="envelope").value.sum().backward()
        return _given(cost.grad)

    def theirs() -> Tensor:
        cost = problem.cost.clone().requires_grad_()
        found = solve_batch(
            cost, EPSILON, problem.a, problem.b, max_iter=count, tol=0.0, method="log_sinkhorn", grad="envelope"
        )
        found.value.sum().backward()
        return _given(cost.grad)

    # The gradient of the value is the plan.
    work = f"value and gradient, {_sizes(problem)}"
    return Row(work, f"ot.batch.solve_batch, envelope, {count} iterations", problem, ours, theirs, 0.67)


def _beside_batch(work: str, problem: Problem, bound: float) -> Row:
    count = iterations(problem)
    peer = f"ot.batch.solve_batch, {count} iterations"
    sides = lambda: _ours(problem), lambda: _solve_batch(problem, count)
    return Row(f"{work}, {_sizes(problem)}", peer, problem, *sides, bound)


@torch.no_grad()
def _ours(problem: Problem) -> Tensor:
    return sinkhorn(problem.cost, EPSILON, **problem.masks, tolerance=ERROR).plan


@torch.no_grad()
def _solve_batch(problem: Problem, count: int) -> Tensor:
    named = {"max_iter": count, "tol": 0.0, "method": "log_sinkhorn", "grad": "detach"}
    return solve_batch(problem.cost, EPSILON, problem.a, problem.b, **named).plan


def _given(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient


def _sizes(problem: Problem) -> str:
    return "{} x {} x {}".format(*problem.cost.shape)


ROWS = {"plain": plain, "loop": loop, "masked": masked, "value": value}


def measure(row: Row, repeats: int) -> dict[str, object]:
    """The row's figures."""
    sides = {"ours": row.ours, "peer": row.theirs}
    errors = {side: error(row.problem, solve()) for side, solve in sides.items()}  # also warms both up
    wall: dict[str, list[float]] = {side: [] for side in sides}
    processor: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, solve in sides.items():
            began = time.perf_counter(), time.process_time()
            solve()
            wall[side].append(time.perf_counter() - began[0])
            processor[side].append(time.process_time() - began[1])
    middle = {side: statistics.median(wall[side]) for side in sides}
    used = {side: statistics.median(processor[side]) for side in sides}
    return {
        "work": row.work,
        "peer": row.peer,
        "ours_s": middle["ours"],
        "peer_s": middle["peer"],
        "time_ratio": middle["ours"] / middle["peer"],
        "fastest_ratio": min(wall["ours"]) / min(wall["peer"]),
        "processor_ratio": used["ours"] / used["peer"],
        "time_bound": row.bound,
        "ours_error": errors["ours"],
        "peer_error": errors["peer"],
        "repeats": repeats,
        "threads": torch.get_num_threads(),
    }


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown."""

    def time_of(row: Mapping[str, object]) -> str:
        ratio, bound = float(str(row["time_ratio"])), float(str(row["time_bound"]))
        return f"{ratio:.3f}x ({'<=' if ratio <= bound else 'MISSED:'} {bound:.3g})"

    return markdown(
        [
            {
                "work": str(row["work"]),
                "peer": str(row["peer"]),
                "time": time_of(row),
                "fastest": "{fastest_ratio:.3f}x".format(**row),
                "processor time": "{processor_ratio:.3f}x".format(**row),
                "seconds": "{ours_s:.3g} / {peer_s:.3g}".format(**row),
                "L1 error": "{ours_error:.1e} / {peer_error:.1e}".format(**row),
            }
            for row in rows
        ]
    )


def main(arguments: Sequence[str] | None = None) -> list[dict[str, object]]:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ROWS, metavar="NAME", help=f"one row: {', '.join(ROWS)}")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each side")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all; the ratios mean nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = [measure(ROWS[name](options.quick), options.repeats) for name in ([options.only] if options.only else ROWS)]
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return rows


if __name__ == "__main__":
    main()
