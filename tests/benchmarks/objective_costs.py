"""Time and memory of one training step of every objective, and how they grow with the batch.

    python tests/benchmarks/objective_costs.py
    python tests/benchmarks/objective_costs.py --objectives clip fdt --batches 256 1024 --dim 256 --tokens 32

One thread, float32, random embeddings: forward and backward of the objective alone, without encoders. Each cell is a
process of its own: processor time, the median of three steps after a first one, and the growth of the resident set at
its highest point. `growth` is the exponent p of time ~ batch^p between the two largest batches.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from figures import table
from torch.nn.functional import normalize

from mmalign import registry

LEFT_OUT = ("masked", "comasked")
"""Objectives of one tower with itself, whose cost is that of the decoder."""

NOTES = {"transport": "tokens", "late_interaction": "tokens", "token_mean": "tokens", "local": "tokens", "fdt": "codes"}


def embedding(needs: frozenset[str], batch: int, dim: int, tokens: int, codes: int, seed: int) -> Any:
    """Random leaves of the fields that an objective needs."""
    from mmalign import Embedding, Tokens

    draw = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> torch.Tensor:
        return normalize(torch.randn(*shape, generator=draw), dim=-1).requires_grad_()

    fields: dict[str, Any] = {}
    if "tokens" in needs:
        fields["tokens"] = Tokens(unit(batch, tokens, dim), torch.ones(batch, tokens, dtype=torch.bool))
    if "log_variance" in needs:
        fields["log_variance"] = torch.full((batch, dim), -7.0).requires_grad_()
    if "codes" in needs:
        fields["codes"] = torch.rand(batch, codes, generator=draw).softmax(1).requires_grad_()
        fields["grounded"] = normalize(fields["codes"] @ unit(codes, dim), dim=1)
    return Embedding(unit(batch, dim), **fields)


def one_cell(name: str, batch: int, dim: int, tokens: int, codes: int) -> dict[str, float]:
    """Seconds and mebibytes of a step, in this process."""
    from mmalign import PairConfig, PairSum

    torch.set_num_threads(1)
    objective = PairSum([PairConfig("a", "b", name)], dim).objectives[0].train()
    a, b = (embedding(objective.needs, batch, dim, tokens, codes, seed) for seed in (1, 2))
    groups = torch.arange(batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def step() -> float:
        start = time.process_time()
        objective(a, b, groups).loss.backward(retain_graph=True)
        return time.process_time() - start

    step()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": statistics.median(step() for _ in range(3)), "MiB": grown / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in registry.names("objectives") if name not in LEFT_OUT]
    parser.add_argument("--objectives", nargs="+", default=known, choices=known)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--most", type=float, default=60.0, help="a step that would take more seconds is left out")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = (arguments.dim, arguments.tokens, arguments.codes)
    if arguments.cell:
        print(json.dumps(one_cell(arguments.cell[0], int(arguments.cell[1]), *sizes)))
        return
    lines = []
    for name in arguments.objectives:
        cells: dict[int, dict[str, float]] = {}
        for batch in arguments.batches:
            last = max(cells, default=0)
            if last and cells[last]["seconds"] * (batch / last) ** 2 > arguments.most:
                continue
            flags = [f"--dim={arguments.dim}", f"--tokens={arguments.tokens}", f"--codes={arguments.codes}"]
            command = [sys.executable, __file__, "--cell", name, str(batch), *flags]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            cells[batch] = json.loads(ended.stdout.splitlines()[-1])
        line = {"objective": f"`{name}`"}
        for batch in arguments.batches:
            found = cells.get(batch)
            shown = "" if found is None else f"{1000 * found['seconds']:,.0f} ms, {found['MiB']:,.0f} MiB"
            line[f"batch {batch}"] = shown
        largest = sorted(cells)[-2:]
        times = [cells[batch]["seconds"] for batch in largest]
        line["growth"] = f"{math.log(times[1] / times[0]) / math.log(largest[1] / largest[0]):.1f}"
        lines.append(line)
        print(line, file=sys.stderr, flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
