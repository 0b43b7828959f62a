"""Zero-shot classification and name retrieval of meshes: networks, linear towers and a random forest on the same folds.

    python tests/benchmarks/pointclouds.py --methods forest forest_features features_before features

Fold k of five (`named_meshes.folds`) is held out for seed k; the other four are trained on, and the first word of the
held-out meshes is predicted from a prompt that is the word alone. Folds 0, 1 and 2 are measured; settings were chosen
on folds 3 and 4. Intervals draw base names (2,000 resamples).
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier

import mmalign
from mmalign.evaluation.metrics import bootstrap
from modalities.pointcloud import MODALITY
from modalities.pointcloud.features.descriptors import DESCRIPTORS, describe
from modalities.pointcloud.transform import turned
from tests.benchmarks.named_meshes import Mesh, class_words, folds, read_meshes, write_table
from tests.benchmarks.prepared import data_folder

POINTS = 1024
TRANSFORM = "model.towers.pointcloud.transform"
BEFORE = {f"{TRANSFORM}.descriptors": ["shape"], "model.cca_init.ridge.pointcloud": 0.3, "model.cca_init.power": 1.0}
"""The recipe `features` before other descriptors than `shape` were added."""

RESAMPLES = 2000
TINY = {"groups": 16, "group_size": 16, "width": 64, "depth": 2, "heads": 4}
"""Of the transformer, with `TINY_POINTS` points."""

TINY_POINTS, PRETRAINING, EPOCHS = 512, 60, 30


class Bench:
    """The meshes, and everything that is computed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meshes = read_meshes(data_folder(), folder / "meshes.zip")
        self.words = class_words(self.meshes)
        self.counted = np.array([mesh.word in self.words for mesh in self.meshes])
        self.features: dict[Any, np.ndarray] = {}
        self._clouds: list[Any] = []

    @property
    def clouds(self) -> list[Any]:
        """Every mesh as a cloud."""
        if not self._clouds:
            import zipfile

            with zipfile.ZipFile(self.folder / "meshes.zip") as files:
                self._clouds = [MODALITY.read(files.read(mesh.file)) for mesh in self.meshes]
        return self._clouds

    def data(self, out: np.ndarray) -> dict[str, Any]:
        """Overrides that name the table of a fold."""
        write_table(self.meshes, out, self.folder / "meshes.csv")
        return {
            "data.source": "manifest", "data.manifest": str(self.folder / "meshes.csv"),
            "data.files": str(self.folder / "meshes.zip"), "data.validation": 0.0,
            "data.cache": str(self.folder / "cache"),
            "data.columns": {"pointcloud": "mesh", "text": "text", "label": "word", "id": "id"},
        }  # fmt: skip


def features(bench: Bench, descriptors: Sequence[str], points: int, seed: int) -> np.ndarray:
    """Features of so many points alone, drawn with a seed, or (0) of all points with their normals."""
    key = (*descriptors, points, seed if points else 0)
    if key not in bench.features:
        rows = []
        for cloud in bench.clouds:
            chosen = np.random.default_rng(seed).permutation(len(cloud))[: points or None]
            normals = None if points else turned(cloud.normals[chosen], "y")
            rows.append(describe(turned(cloud.points[chosen], "y"), normals, descriptors))
        bench.features[key] = np.stack(rows)
    return bench.features[key]


def forest(
    descriptors: Sequence[str] = ("shape",), *, points: int = 0
) -> Callable[[Bench, np.ndarray, int], tuple[np.ndarray, dict[str, float]]]:
    """A random forest, supervised by the word, on `features`."""

    def run(bench: Bench, out: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, float]]:
        x = features(bench, descriptors, points, seed)
        y = np.array([mesh.word for mesh in bench.meshes])
        fit, test = bench.counted & ~out, bench.counted & out
        return RandomForestClassifier(300, random_state=seed).fit(x[fit], y[fit]).predict(x[test]), {}

    return run


def trained(recipe: str, **more: Any) -> Callable[[Bench, np.ndarray, int], tuple[np.ndarray, dict[str, float]]]:
    """A method that trains a recipe and predicts the word whose prompt is most similar."""

    def run(bench: Bench, out: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, float]]:
        settings = {**bench.data(out), "seed_everything": seed, **more}
        with tempfile.TemporaryDirectory() as folder:
            model = mmalign.load(mmalign.train(recipe, settings, out=folder).bundle)
        return predict(bench, model, out)

    return run


def pretrained(recipe: str, epochs: int) -> Callable[[Bench, np.ndarray, int], tuple[np.ndarray, dict[str, float]]]:
    """A method that pretrains the tiny transformer on the training meshes without names, then trains with CLIP.

    The other figures are of 5-way 5-shot classification on the frozen vectors before the training with names.
    """

    def run(bench: Bench, out: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, float]]:
        settings = {**bench.data(out), "seed_everything": seed}
        unnamed = {"data.columns": {"pointcloud": "mesh", "id": "id"}, "trainer.max_epochs": epochs}
        sizes = {"model.dim": 2 * TINY["width"], "model.towers.pointcloud.args": TINY | {"decoder_depth": 2}}
        points = {f"{TRANSFORM}.points": TINY_POINTS}
        with tempfile.TemporaryDirectory() as folder:
            before = mmalign.train(recipe, {**settings, **unnamed, **sizes, **points}, out=f"{folder}/before").bundle
            columns = {"pointcloud": "mesh", "id": "id", "label": "word", "group": "base"}
            data = mmalign.DataConfig(
                "manifest", settings["data.manifest"], files=settings["data.files"], columns=columns, validation=0.0,
                cache=settings["data.cache"],
            )  # fmt: skip
            shots = mmalign.evaluate(before, data, "few-shot", split="all", folds=100, seed=seed)
            start = {"model.towers.pointcloud.weights": str(before), "model.towers.pointcloud.args": {}}
            more = {**start, **points, "trainer.max_epochs": EPOCHS}
            model = mmalign.load(
                mmalign.train("pointcloud-text/clip", {**settings, **more}, out=f"{folder}/run").bundle
            )
        words, other = predict(bench, model, out)
        rows = shots.scores["accuracy"].items()
        (few_shot,) = (row["accuracy"] for name, row in rows if name.endswith("linear head"))
        return words, other | {"few_shot": few_shot}

    return run


def predict(bench: Bench, model: mmalign.Aligner, out: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Words of the held-out counted meshes; names found among all held-out meshes; accuracy after random rotations."""
    rows = np.flatnonzero(out)
    shapes = model.encode("pointcloud", [bench.clouds[row] for row in rows])
    prompts = model.encode("text", bench.words)
    words = np.array(bench.words)[model.similarity(shapes, prompts).argmax(1).numpy()]
    names = sorted({bench.meshes[row].text for row in rows})
    scores = model.similarity(shapes, model.encode("text", names))
    right = torch.tensor([names.index(bench.meshes[row].text) for row in rows])
    rank = (scores >= scores.gather(1, right[:, None])).sum(1)
    found = {"name_hit@10": float((rank <= 10).float().mean()), "name_mrr": float((1 / rank).mean())}
    counted = np.flatnonzero(out & bench.counted)
    turned_clouds = [
        MODALITY.perturb(bench.clouds[row], model.transforms["pointcloud"], "rotation", 180, np.random.default_rng(row))
        for row in counted
    ]
    again = model.similarity(model.encode("pointcloud", turned_clouds), prompts).argmax(1).numpy()
    found["rotated"] = float(np.mean(np.array(bench.words)[again] == [bench.meshes[row].word for row in counted]))
    return words[bench.counted[rows]], found


METHODS: dict[str, Callable[[Bench, np.ndarray, int], Any]] = {
    "forest": forest(points=POINTS),
    "forest_shape": forest(),
    "forest_features": forest(DESCRIPTORS),
    "features": trained("pointcloud-text/features"),
    "features_points": trained("pointcloud-text/features", **{f"{TRANSFORM}.normals": False}),
    "features_shape": trained("pointcloud-text/features", **{f"{TRANSFORM}.descriptors": ["shape"]}),
    "features_before": trained("pointcloud-text/features", **BEFORE),
    "scratch": pretrained("pointcloud/mae", 0),
    "mae": pretrained("pointcloud/mae", PRETRAINING),
    "cmae": pretrained("pointcloud/cmae", PRETRAINING),
}

FORESTS = ("forest", "forest_shape", "forest_features")


def interval(values: np.ndarray, groups: list[str]) -> tuple[float, float]:
    """95 % percentile interval of a mean, base names drawn."""
    _, inverse = np.unique(groups, return_inverse=True)
    ((low, high),) = bootstrap.means(values[:, None], inverse, resamples=RESAMPLES, seed=0)
    return low, high


def measure(bench: Bench, methods: Iterable[str], seed: int) -> dict[str, Any]:
    """Base names of the held-out meshes of a fold, and for each method which of them it classifies correctly."""
    out = folds(bench.meshes, 0) == seed
    meshes: list[Mesh] = [bench.meshes[row] for row in np.flatnonzero(bench.counted & out)]
    result: dict[str, Any] = {"groups": [mesh.base for mesh in meshes], "methods": {}}
    for name in methods:
        start = time.process_time()
        predicted, other = METHODS[name](bench, out, seed)
        hits = predicted == np.array([mesh.word for mesh in meshes])
        result["methods"][name] = {"hits": hits.tolist(), "other": other}
        print(f"seed {seed} {name}: {hits.mean():.3f} {other} {time.process_time() - start:.0f} s", flush=True)
    return result


def table(results: dict[str, Any]) -> list[str]:
    """A line for each method: accuracy over its seeds, and its paired difference to each forest."""
    lines = []
    for name in METHODS:
        runs = {seed: one for seed, one in results.items() if name in one["methods"]}
        if not runs:
            continue
        found, groups = joined(runs, name)
        low, high = interval(found, groups)
        seeds = ", ".join(f"{np.mean(one['methods'][name]['hits']):.3f}" for one in runs.values())
        line = f"{name:15} {found.mean():.3f} ({low:.3f} to {high:.3f}), n {len(found)}, seeds {seeds}"
        for key in next(iter(runs.values()))["methods"][name]["other"]:
            line += f", {key} {np.mean([one['methods'][name]['other'][key] for one in runs.values()]):.3f}"
        for base in FORESTS:
            both = {seed: one for seed, one in runs.items() if base in one["methods"]}
            if both and name not in FORESTS:
                difference = joined(both, name)[0] - joined(both, base)[0]
                low, high = interval(difference, joined(both, name)[1])
                line += f", minus {base} {difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
        lines.append(line)
    return lines


def joined(runs: dict[str, Any], name: str) -> tuple[np.ndarray, list[str]]:
    """Hits and base names over seeds."""
    hits = np.concatenate([one["methods"][name]["hits"] for one in runs.values()]).astype(float)
    return hits, [group for one in runs.values() for group in one["groups"]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="file of hits, to which the seeds and methods of this run are added")
    parser.add_argument("--work", type=Path, help="folder that keeps the archive and cached features for the next run")
    asked = parser.parse_args()
    results = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if asked.work:
            asked.work.mkdir(parents=True, exist_ok=True)
        bench = Bench(asked.work or Path(folder))
        for seed in asked.seeds:
            one = measure(bench, asked.methods, seed)
            one["methods"] = {**results.get(str(seed), one)["methods"], **one["methods"]}
            results[str(seed)] = one
            if asked.json:
                asked.json.write_text(json.dumps(results))
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
