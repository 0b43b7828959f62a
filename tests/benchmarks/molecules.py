"""Molecules a second from SMILES to features, beside PyTorch Geometric's `from_smiles`, and from the store.

    python tests/benchmarks/molecules.py
    python tests/benchmarks/molecules.py --count 1000 --repeats 7 --json molecules.json
    python tests/benchmarks/molecules.py --count 0 --store 0 --run RUN --cache FOLDER

With `--run`, a run of molecule-text/clip: `mmalign evaluate` of all 3,301 texts of validation.txt among the corpus, the
first time perhaps with an empty folder; and the start in closed form of its 2,801 pairs by all directions, then by the
strongest, as of more rows than are taken whole, with what that costs in held-out rank.

One process and one thread, but for the first start of a store, which has two processes. All sides run in turn on
the same molecules, so that what else the machine does meets them all. Ratios are of medians. `from_smiles` gives 9
fields an atom and 3 a bond; the graph fields here are 10 and 4. CIP labels, motifs and fingerprints have no counterpart
there: they are in the rows that say so.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import table as markdown
from scipy.sparse import csr_array, vstack

Side = Callable[[Sequence[str]], Any]


def sides() -> dict[str, Side]:
    """What is measured, by name; the first is the peer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an older torch interface, at import
        from torch_geometric.utils import from_smiles
    from rdkit import Chem, RDLogger

    from modalities.molecule.chem.featurise import featurise
    from modalities.molecule.chem.fingerprint import morgan
    from modalities.molecule.chem.rdkit_log import quiet
    from modalities.molecule.read import read_molecule

    def fields(stereo: bool, parts: bool) -> Side:
        def run(smiles: Sequence[str]) -> Any:
            made = []
            for one in smiles:
                with quiet:
                    made.append(featurise(Chem.MolFromSmiles(one), one, stereo=stereo, parts=parts))
            return made

        return run

    RDLogger.DisableLog("rdApp.*")  # as from_smiles does
    return {
        "PyG from_smiles": lambda smiles: [from_smiles(one) for one in smiles],
        "rdkit parsing alone": lambda smiles: [Chem.MolFromSmiles(one) for one in smiles],
        "graph fields": fields(stereo=False, parts=False),
        "graph fields, CIP": fields(stereo=True, parts=False),
        "graph fields, motifs": fields(stereo=False, parts=True),
        "read_molecule: all of it, checked": lambda smiles: [read_molecule(one) for one in smiles],
        "Morgan counts, 4096 bins": lambda smiles: [morgan(one, 4096) for one in smiles],
    }


def measure(smiles: Sequence[str], repeats: int) -> list[dict[str, Any]]:
    """One row a side: molecules a second by wall and by processor time, and how often as fast as the peer."""
    runs: dict[str, list[tuple[float, float]]] = {}
    everything = sides()
    for run in everything.values():
        run(smiles[:50])  # libraries load what they load
    for _ in range(repeats):
        for name, run in everything.items():
            runs.setdefault(name, []).append(_timed(lambda run=run: run(smiles)))
    return _rows(runs, len(smiles))


def measure_store(smiles: Sequence[str], repeats: int, workers: int = 2) -> list[dict[str, Any]]:
    """The whole corpus: made once, then opened (checked in full), then every molecule taken out; and its counts."""
    from modalities.molecule import MODALITY
    from modalities.molecule.cache.graph_cache import FeatureStore

    with tempfile.TemporaryDirectory() as folder:
        first = [_timed(lambda: FeatureStore.build(smiles, folder, workers))]
        second = [_timed(lambda: FeatureStore.build(smiles, folder)) for _ in range(repeats)]
        store = FeatureStore.build(smiles, folder)
        taken = [_timed(lambda: list(store)) for _ in range(repeats)]

        def batch() -> Any:
            opened, transform = FeatureStore.build(smiles, folder), MODALITY.transform("gine", {})
            return transform.collate([transform.item(molecule) for molecule in opened[:256]])

        batches = [_timed(batch) for _ in range(repeats)]
        size = store.path.stat().st_size / max(len(store), 1)

        def counts() -> Any:
            transform = MODALITY.transform("fingerprints", {})
            return transform, transform.featurise_many(store, Path(folder), workers)

        counted = [_timed(counts)]
        again = [_timed(counts) for _ in range(repeats)]
        transform, features = counts()
        items = [_timed(lambda: [transform(features[row]) for row in range(len(store)) if row not in store.rejected])]
    runs = {"first start": first, "second start": second, "second start and a batch": batches}
    runs |= {"taking each molecule": taken}
    runs |= {"counts, first start": counted, "counts, second start": again, "every item from both": items}
    rows = _rows(runs, len(smiles))
    for row in rows:
        row["bytes a molecule"] = size
    return rows


def measure_evaluation(run: str, cache: str, repeats: int) -> list[dict[str, Any]]:
    """The command of docs/molecules.md, a process each time: wall and processor seconds, and what it found."""
    found = []
    for start in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "scores.json"
            asked = ["--task", "retrieval", "--split", "all", "--gallery", "corpus", "--ks", "1", "10", "100"]
            command = [sys.executable, "-m", "mmalign", "evaluate", run, *asked, "--data.cache", cache, "--json", out]
            wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True)
            wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
            scores = json.loads(out.read_text())["scores"]["text_to_molecule"]
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        row = {"start": str(start + 1), "cores": str(len(os.sched_getaffinity(0))), "seconds": wall}
        found.append(row | {"processor seconds": seconds, "texts": str(scores["n"]), "among": str(scores["gallery"])})
    return found


def measure_start(run: str, cache: str, limits: Sequence[int] = (4096, 0)) -> list[dict[str, Any]]:
    """Directions of 2,801 pairs, all of them and the strongest: seconds, and the ranks of 500 texts' own molecules."""
    import mmalign
    from mmalign.data.config import DataConfig
    from mmalign.data.dataset import Dataset
    from mmalign.training.starting.cca import cca as correlation
    from mmalign.training.starting.cca import truncated_svd as directions

    model = mmalign.load(run)
    data = Dataset.open(
        DataConfig("chebi20", options={"split": "own", "held": 500}, cache=cache),
        {side: model.modalities[side] for side in ("molecule", "text")},
    )
    rows = {split: [_features(model, data, side, split) for side in data.sides] for split in ("train", "validation")}
    found = []
    for limit in limits:
        directions.EXACT = limit
        wall, processor = _timed(lambda: [directions.directions(side, 0) for side in rows["train"]])
        maps = correlation.canonical_maps(*rows["train"], 256, ridge=(3.0, 1.0))
        a, b = (side @ one.numpy() for side, one in zip(rows["validation"], maps, strict=True))
        scores = b @ (a / np.linalg.norm(a, axis=1, keepdims=True)).T
        ranks = 1 + (scores > np.diag(scores)[:, None]).sum(1)
        row = {"directions": "all" if limit else f"the strongest {directions.STRONGEST}", "seconds": wall}
        found.append(row | {"processor seconds": processor, "mrr of 500": f"{(1 / ranks).mean():.4f}"})
    return found


def _features(model: Any, data: Any, side: str, split: str) -> Any:
    blocks = []
    for inputs, _ in data.split(split).batches(side, data.transforms[side]):
        found = model.encoders[side].linear_features(inputs).coalesce()
        blocks.append(csr_array((found.values().numpy(), found.indices().numpy()), shape=tuple(found.shape)))
    return vstack(blocks).tocsr()


def _timed(work: Callable[[], Any]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def _rows(runs: dict[str, list[tuple[float, float]]], count: int) -> list[dict[str, Any]]:
    medians = {name: [statistics.median(column) for column in zip(*times, strict=True)] for name, times in runs.items()}
    peer = next(iter(medians.values()))
    return [
        {
            "work": name,
            "seconds": wall,
            "molecules a second": count / wall,
            "by processor time": count / processor,
            "ratio": peer[0] / wall,
            "processor ratio": peer[1] / processor,
        }
        for name, (wall, processor) in medians.items()
    ]


def corpus() -> list[str]:
    """The SMILES of ChEBI-20."""
    folder = Path(os.environ.get("MMALIGN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    lines = (folder / "chebi20" / "corpus_smiles.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines[1:]]


def main(arguments: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000, help="molecules of the comparison, 0 = leave it out")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side")
    parser.add_argument("--store", type=int, default=33_010, help="molecules of the store, 0 = leave it out")
    parser.add_argument("--run", help="a run of molecule-text/clip, to time its evaluation and its start")
    parser.add_argument("--cache", default="runs/molecule-cache", help="folder of what was read, for --run")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    smiles = corpus()
    found = {}
    if options.count:
        found["sides"] = measure(smiles[: options.count], options.repeats)
    if options.store:
        found["store"] = measure_store(smiles[: options.store], options.repeats)
    if options.run:
        found["evaluation"] = measure_evaluation(options.run, options.cache, options.repeats)
        found["start"] = measure_start(options.run, options.cache)
    for rows in found.values():
        print(markdown([{name: _text(value) for name, value in row.items()} for row in rows]), "\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    main()
