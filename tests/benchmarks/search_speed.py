"""Search: exact against FAISS, indexes against exact search, and lower precision against float32.

    python tests/benchmarks/search_speed.py                    # all three tables, about ten minutes
    python tests/benchmarks/search_speed.py --parts exact indexes

`exact`: 1,000 queries against 1,000,000 vectors of 256 numbers in a mapped Arrow file, both programs in one process
with the same number of threads, each the best of three. `indexes`: 100,000 clustered vectors of 128 numbers.
`precision`: molecules of ChEBI-20 by the texts of its 500 held-out pairs, after training `molecule-text/clip` on the
2,801 others.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from figures import table as markdown

import mmalign
from mmalign import EmbeddingTable, StoredVectors
from mmalign.embedding.scoring import inner_product
from mmalign.embedding.stored_vectors import PRECISIONS
from mmalign.searching.exact import best_rows
from mmalign.types import Embedding


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    for part in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n{part}\n\n{markdown(PARTS[part](Path(folder), options))}", flush=True)


def exact(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of exact search, and resident memory beyond the vectors."""
    import faiss

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    random = torch.Generator().manual_seed(0)
    _write(
        folder / "rows.arrow", torch.nn.functional.normalize(torch.randn(options.rows, 256, generator=random), dim=1)
    )
    queries = torch.nn.functional.normalize(torch.randn(1000, 256, generator=random), dim=1)
    table = EmbeddingTable.read(folder / "rows.arrow")
    float(table.vectors.codes.sum())  # every page is resident
    before = _reset_peak()
    ours, found = _best(lambda: best_rows(Embedding(queries), table.vectors, 10, score=inner_product))
    beyond = _peak() - before
    flat = faiss.IndexFlatIP(256)
    flat.add(table.vectors.codes.numpy())
    theirs, peer = _best(lambda: flat.search(queries.numpy(), 10))
    same = (found[1] == torch.from_numpy(peer[1])).float().mean()
    return [
        {"program": "mmalign", "seconds": f"{ours:.2f}", "ratio": f"{ours / theirs:.2f}",
         "MiB beyond the vectors": f"{beyond:.0f}", "same rows": f"{same:.4f}"},
        {"program": f"FAISS {faiss.__version__} flat", "seconds": f"{theirs:.2f}", "ratio": "1.00",
         "MiB beyond the vectors": "", "same rows": ""},
    ]  # fmt: skip


def indexes(folder: Path, _: argparse.Namespace) -> list[dict[str, Any]]:
    """Recall and time of both kinds of index."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(1000, 128, generator=random)
    cluster = torch.randint(1000, (100_000,), generator=random)
    vectors = centers[cluster] + 0.5 * torch.randn(100_000, 128, generator=random)
    _write(folder / "rows.arrow", torch.nn.functional.normalize(vectors, dim=1))
    found = []
    for kind in ("hnsw", "ivfpq"):
        start = time.perf_counter()
        report = mmalign.build_index(folder / "rows.arrow", kind)
        built = time.perf_counter() - start
        found.append({"index": kind, "recall@10": f"{report.recall:.3f}", "effort": str(report.effort),
                      "times as fast as exact": f"{report.exact_seconds / report.seconds:.1f}",
                      "MB": f"{report.bytes / 1e6:.1f}", "seconds to build": f"{built:.1f}"})  # fmt: skip
    return found


def precision(folder: Path, _: argparse.Namespace) -> list[dict[str, Any]]:
    """hit@10 of held-out texts among all molecules at each precision, alone and scored again by float32."""
    own = {"split": "own", "held": 500}
    overrides = {"data.source": "chebi20", "data.options": own, "seed_everything": 0}
    model = mmalign.train("molecule-text/clip", overrides, out=folder / "run").model
    data = mmalign.DataConfig("chebi20", options=own)
    molecules = mmalign.embed(model, data, "molecule")
    texts = mmalign.embed(model, data, "text", split="validation")
    rows = []
    full = 0.0
    for name in PRECISIONS:
        stored = molecules.vectors.at(name)
        hits = _hits(texts, molecules, stored, None)
        full = full or hits
        rows.append({"precision": name, "bytes a vector": str(stored.nbytes // len(stored)), "hit@10": f"{hits:.3f}",
                     "of float32": f"{hits / full:.3f}",
                     "scored again": f"{_hits(texts, molecules, stored, molecules.vectors):.3f}"})  # fmt: skip
    return rows


def _hits(
    texts: EmbeddingTable, molecules: EmbeddingTable, stored: StoredVectors, finer: StoredVectors | None
) -> float:
    from mmalign.searching.exact import score_again

    _, rows = best_rows(texts.embedding, stored, 100 if finer else 10, score=inner_product)
    if finer:
        _, rows = score_again(texts.embedding, finer, rows, 10, score=inner_product)
    own = [own in {molecules.ids[row] for row in found} for own, found in zip(texts.ids, rows.tolist(), strict=True)]
    return sum(own) / len(own)


def _write(path: Path, vectors: torch.Tensor) -> None:
    names = [str(row) for row in range(len(vectors))]
    EmbeddingTable(names, [0] * len(names), names, names, [()] * len(names), StoredVectors.of(vectors), "image").write(
        path
    )


def _best(run: Callable[[], Any]) -> tuple[float, Any]:
    times, result = [], None
    for _ in range(3):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def _reset_peak() -> float:
    """Resident MiB now, from which the peak counts again (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


PARTS = {"exact": exact, "indexes": indexes, "precision": precision}

if __name__ == "__main__":
    main()
