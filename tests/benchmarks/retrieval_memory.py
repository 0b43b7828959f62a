"""Largest resident memory of ranking every query of one tower among every item of the other, with the default malloc.

    python tests/benchmarks/retrieval_memory.py                       # 50,000 x 50,000, 1 and 5 relevant items a query
    python tests/benchmarks/retrieval_memory.py --items 5000 --relevant 5

Vectors are random; a process for each row, because memory that was resident once counts for the rest of a process.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from figures import table as markdown
from scipy.sparse import csr_array

from mmalign import Embedding, ranks


def measure(items: int, dim: int, relevant: int) -> dict[str, Any]:
    """Gigabytes before and at most, and processor time."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(2, items, dim, generator=generator), dim=2)
    queries = np.repeat(np.arange(items), relevant)
    truth = csr_array((np.ones(len(queries)), (queries, np.arange(len(queries)) * 7 % items)), shape=(items, items))
    before, start = _peak(), time.process_time()
    ranks(Embedding(vectors[0]), Embedding(vectors[1]), truth, score=lambda a, b: a.vector @ b.vector.T)
    spent = time.process_time() - start
    return {"queries and items": items, "relevant": relevant, "before": before, "peak": _peak(), "processor": spent}


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure each row in a process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--relevant", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--one", action="store_true", help="measure in this process, as JSON")
    options = parser.parse_args(arguments)
    if options.one:
        row = measure(options.items, options.dim, options.relevant[0])
        print(json.dumps(row))
        return [row]
    rows = []
    for relevant in options.relevant:
        sizes = ["--items", str(options.items), "--dim", str(options.dim), "--relevant", str(relevant)]
        ran = subprocess.run([sys.executable, __file__, *sizes, "--one"], capture_output=True, text=True, check=True)
        rows.append(json.loads(ran.stdout))
    shown = [
        {name: f"{value:,}" if isinstance(value, int) else f"{value:.2f}" for name, value in row.items()}
        for row in rows
    ]
    print(markdown(shown))
    return rows


def _peak() -> float:
    """Gigabytes; the system counts kilobytes, on a Mac bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


if __name__ == "__main__":
    main()
