"""Molecules and texts: what each part of a recipe is worth, on held-out pairs of ChEBI-20, beside the floor.

    python tests/benchmarks/molecule_text.py --rows floor start clip --seeds 0 1 2

Trains on validation.txt (all of ChEBI-20's texts that the data folder has) less 500 held-out pairs, which are the same
in every run; asks with their texts among the whole corpus of 33,010 molecules, with their texts among the 500, and with
their molecules among the 500 texts. Ties share the mean of their ranks. Runs that exist are not trained again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from figures import Scores, difference, interval

HELD = "{split: own, held: 500}"
CLIP = "molecule-text/clip"
GRAPH = ["--model.towers.molecule.args.graph=2", "--model.towers.molecule.freeze=true",
         "--model.towers.molecule.trainable=['graph.*', 'gate']", "--model.towers.text.freeze=true",
         "--model.optimizer.lr=1e-3", "--model.optimizer.weight_decay=0.1"]  # fmt: skip
FROM_NOTHING = ["--model.cca_init=null", "--model.optimizer.lr=1e-3", "--model.optimizer.weight_decay=0.1"]
ROWS: dict[str, tuple[str, list[str]]] = {
    "floor": ("molecule-text/floor", []),
    "start": (CLIP, ["--trainer.max_epochs=0"]),
    "clip": (CLIP, []),
    "clip, Morgan counts alone": (CLIP, ["--model.towers.molecule.transform.families=[morgan]"]),
    "clip, random start": (CLIP, [*FROM_NOTHING, "--trainer.max_epochs=30"]),
    "graph alone, random start": (
        CLIP,
        [*FROM_NOTHING, "--model.towers.molecule.encoder=hierarchical", "--model.towers.molecule.args={width: 256}",
         "--data.batch_size=256", "--trainer.max_epochs=15"],
    ),
    **{
        f"PyG {model} alone, random start": (
            CLIP,
            [*FROM_NOTHING, "--model.towers.molecule.encoder=pyg",
             f"--model.towers.molecule.args={{model: {model}, width: 256, depth: 4}}",
             "--data.batch_size=256", "--trainer.max_epochs=15"],
        )
        for model in ("GIN", "GAT", "PNA")
    },
    "clip + motifs": (CLIP, [*GRAPH, "--data.batch_size=128", "--trainer.max_epochs=6"]),
    "clip + hard negatives": (CLIP, ["--data.hard_negatives=molecule", "--data.batch_size=256"]),
    "orma": ("molecule-text/orma", []),
    "transport": ("molecule-text/transport", []),
    "fdt": ("molecule-text/fdt", []),
    "pcmepp": ("molecule-text/pcmepp", []),
    "floor, PCdes added": ("molecule-text/floor", []),
    "clip, PCdes added": (CLIP, []),
}  # fmt: skip
SCORES = ("corpus hit@1", "corpus hit@10", "corpus mrr", "split hit@1", "molecule to text hit@1")


def options(row: str, pcdes: str) -> str:
    """The source's options of a row."""
    return HELD.replace("}", f", add: {pcdes}}}") if "PCdes" in row else HELD


def run(out: Path, row: str, seed: int, cache: str, pcdes: str) -> Path:
    """Train and measure, unless that was done before."""
    folder = out / row.replace(" ", "_").replace(",", "") / str(seed)
    if (folder / "figures.json").exists():
        return folder
    recipe, flags = ROWS[row]
    command = [
        sys.executable, "-m", "mmalign", "train", recipe, f"--data.options={options(row, pcdes)}", *flags,
        f"--seed_everything={seed}", f"--data.cache={cache}", "--trainer.limit_val_batches=0", "--overwrite",
        f"--out={folder}",
    ]  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    trained = time.perf_counter() - begun
    (folder / "figures.json").write_text(json.dumps(measure([folder], cache) | {"seconds": trained}) + "\n")
    return folder


def measure(folders: list[Path], cache: str, rerank: int = 100) -> dict[str, object]:
    """Every held-out query's outcomes: the first 100 by vectors, ranked again by the whole score.

    Several bundles together count by their mean rank.
    """
    import mmalign
    from mmalign.data.config import DataConfig
    from mmalign.evaluation.run_task import evaluate

    models = [mmalign.load(folder) for folder in folders]
    ensemble = {"ensemble": models[1:]} if len(models) > 1 else {}
    outcomes: dict[str, list[float]] = {}
    for name in ("corpus", "split"):
        data = DataConfig("chebi20", options={"split": "own", "held": 500}, cache=cache)
        found = evaluate(
            models[0], data, "retrieval", pair=("molecule", "text"), gallery=name, ties="middle",
            bootstrap=0, rerank=0 if ensemble else rerank, **ensemble,
        ).details  # fmt: skip
        ranks = found["text_to_molecule"].best.double().numpy()
        outcomes |= {f"{name} hit@1": (ranks < 1).tolist(), f"{name} hit@10": (ranks < 10).tolist()}
        outcomes[f"{name} mrr"] = (1 / (1 + ranks)).tolist()
        if name == "split":
            outcomes["molecule to text hit@1"] = (found["molecule_to_text"].best.double().numpy() < 1).tolist()
    return {"outcomes": outcomes}


def scores_of(figures: dict[str, object]) -> Scores:
    """A run's figures as numbers a query."""
    outcomes = figures["outcomes"]
    assert isinstance(outcomes, dict)
    return Scores({name: np.asarray(outcomes[name], float) for name in SCORES}, np.arange(len(outcomes[SCORES[0]])))


def table(rows: dict[str, list[Scores]], seconds: dict[str, float]) -> str:
    """A row a recipe: every score with its interval over seeds and queries, and the difference from the floor."""
    lines = [f"| recipe | {' | '.join(SCORES)} | corpus mrr minus floor | s |", "| --- | " + "--- | " * 7]
    for name, seeds in rows.items():
        cells = []
        for score in SCORES:
            low, high = interval(seeds, score)
            cells.append(f"{np.mean([one.mean(score) for one in seeds]):.3f} [{low:.3f}, {high:.3f}]")
        apart = ""
        if name != "floor" and "floor" in rows and len(rows["floor"]) == len(seeds):
            apart = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference(seeds, rows["floor"], "corpus mrr"))
        lines.append(f"| {name} | {' | '.join(cells)} | {apart} | {seconds.get(name, 0):.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ensembles", nargs="*", choices=list(ROWS), default=[], help="rows whose seeds rank together")
    parser.add_argument("--out", type=Path, default=Path("runs/molecule-text"))
    parser.add_argument("--cache", default="runs/molecule-cache")
    parser.add_argument("--pcdes", default="../shared/data/pcdes", help="folder of PCdes, for the row that adds it")
    given = parser.parse_args()
    rows: dict[str, list[Scores]] = {}
    seconds: dict[str, float] = {}
    for row in given.rows:
        folders = []
        for seed in given.seeds:
            folders.append(run(given.out, row, seed, given.cache, given.pcdes))
            print(f"{row} {seed} done", file=sys.stderr, flush=True)
        found = [json.loads((folder / "figures.json").read_text()) for folder in folders]
        rows[row] = [scores_of(one) for one in found]
        seconds[row] = float(np.median([one["seconds"] for one in found]))
        if row in given.ensembles:
            rows[f"{row}, {len(folders)} seeds by rank"] = [scores_of(measure(folders, given.cache))]
    print(f"\nChEBI-20, 2,801 pairs to train on, 500 held out, masked texts, seeds {given.seeds}\n")
    print(table(rows, seconds))


if __name__ == "__main__":
    main()
