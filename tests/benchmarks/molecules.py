"""Molecules a second from SMILES to features, beside PyTorch Geometric's `from_smiles`, and from the store.

    python tests/benchmarks/molecules.py
    python tests/benchmarks/molecules.py --count 1000 --repeats 7 --json molecules.json

One process and one thread, but for the first start of a store, which has two processes. All sides run in turn on
the same molecules, so that what else the machine does meets them all. Ratios are of medians. `from_smiles` gives 9
fields an atom and 3 a bond; the graph fields here are 10 and 4. CIP labels, motifs and fingerprints have no counterpart
there: they are in the rows that say so.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from figures import table as markdown

Side = Callable[[Sequence[str]], Any]


def sides() -> dict[str, Side]:
    """What is measured, by name; the first is the peer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an older torch interface, at import
        from torch_geometric.utils import from_smiles
    from rdkit import Chem, RDLogger

    from modalities.molecule.featurise import featurise
    from modalities.molecule.fingerprint import morgan
    from modalities.molecule.quiet import quiet
    from modalities.molecule.read import read_molecule

    def fields(stereo: bool, parts: bool) -> Side:
        def run(smiles: Sequence[str]) -> Any:
            made = []
            for one in smiles:
                with quiet():
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
    from modalities.molecule.store import FeatureStore

    with tempfile.TemporaryDirectory() as folder:
        first = [_timed(lambda: FeatureStore.build(smiles, folder, workers))]
        second = [_timed(lambda: FeatureStore.build(smiles, folder)) for _ in range(repeats)]
        store = FeatureStore.build(smiles, folder)
        taken = [_timed(lambda: list(store)) for _ in range(repeats)]
        size = store.path.stat().st_size / max(len(store), 1)

        def counts() -> Any:
            transform = MODALITY.transform("counted", {})
            transform.prepare(store, Path(folder), workers)
            return transform

        counted = [_timed(counts)]
        again = [_timed(counts) for _ in range(repeats)]
        transform = counts()
        items = [_timed(lambda: [transform(molecule) for molecule in store])]
    runs = {"first start": first, "second start": second, "taking each molecule": taken}
    runs |= {"counts, first start": counted, "counts, second start": again, "every item from both": items}
    rows = _rows(runs, len(smiles))
    for row in rows:
        row["bytes a molecule"] = size
    return rows


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
    parser.add_argument("--count", type=int, default=3000, help="molecules of the comparison, the first of the corpus")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side")
    parser.add_argument("--store", type=int, default=33_010, help="molecules of the store, 0 = leave it out")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    smiles = corpus()
    found = {"sides": measure(smiles[: options.count], options.repeats)}
    if options.store:
        found["store"] = measure_store(smiles[: options.store], options.repeats)
    for rows in found.values():
        print(markdown([{name: _text(value) for name, value in row.items()} for row in rows]), "\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    main()
