"""Meshes, pictures and names: all six directions of retrieval, and what the pictures change between meshes and names.

    python tests/benchmarks/pointcloud_triples.py --methods features clip --seeds 0 1 2

312 meshes of kenney_3d with previews; fold k of five (`named_meshes.folds`) is held out for seed k. Each recipe of
three towers is compared with the recipe of two towers (`pointcloud-text`) with the same encoders. Intervals draw base
names (2,000 resamples).
"""

import argparse
import csv
import tempfile
import zipfile
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

import mmalign
from tests.benchmarks.named_meshes import Mesh, folds, read_meshes
from tests.benchmarks.pointclouds import BEFORE, interval
from tests.benchmarks.prepared import data_folder

COLUMNS = {"pointcloud": "mesh", "text": "text", "image": "image", "id": "id", "group": "base"}
SIZE = {"groups": 16, "group_size": 16, "width": 64, "depth": 2}
"""Of the transformer of `clip`, with 512 points: a run of three towers takes 40 s of a core."""

SMALL = {"model.towers.pointcloud.transform.points": 512} | {
    f"model.towers.pointcloud.args.{name}": value for name, value in SIZE.items()
}
METHODS: dict[str, dict[str, Any]] = {"features": BEFORE, "clip": SMALL}
"""Overrides of both recipes; the settings of `features` are those of `pointcloud-image-text/features`."""


def ranks(method: str, towers: list[str], meshes: list[Mesh], seed: int, folder: Path) -> dict[str, np.ndarray]:
    """Ranks of the right item in each direction, of the held-out meshes; ties count against the method."""
    held_out = folds(meshes, 0) == seed
    with (folder / "meshes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "mesh", "image", "text", "base", "split"])
        for mesh, out in zip(meshes, held_out, strict=True):
            writer.writerow([mesh.id, mesh.file, mesh.preview, mesh.text, mesh.base, "test" if out else "train"])
    columns = {name: column for name, column in COLUMNS.items() if name in (*towers, "id", "group")}
    settings = {
        "data.source": "manifest", "data.manifest": str(folder / "meshes.csv"),
        "data.files": str(folder / "meshes.zip"), "data.columns": columns, "data.validation": 0.0,
        "data.cache": str(folder / "cache"), "seed_everything": seed, **METHODS[method],
    }  # fmt: skip
    recipe = f"{'-'.join(towers)}/{method}"
    model = mmalign.load(mmalign.train(recipe, settings, out=folder / f"{recipe}-{seed}".replace("/", "-")).bundle)
    test = [mesh for mesh, out in zip(meshes, held_out, strict=True) if out]
    with zipfile.ZipFile(folder / "meshes.zip") as files:
        values: dict[str, list[Any]] = {"text": [mesh.text for mesh in test]}
        for tower, paths in (("pointcloud", [mesh.file for mesh in test]), ("image", [mesh.preview for mesh in test])):
            if tower in towers:
                values[tower] = [model.modalities[tower].read(files.read(path)) for path in paths]
    vectors = {tower: model.encode(tower, samples).vector.numpy() for tower, samples in values.items()}
    found = {}
    for a, b in permutations(towers, 2):
        scores = vectors[a] @ vectors[b].T
        right = np.diag(scores)[:, None]
        equal = np.array([[one.text == other.text for one in test] for other in test]) & ("text" in (a, b))
        found[f"{a} to {b}"] = 1 + ((scores >= right) & ~equal & ~np.eye(len(test), dtype=bool)).sum(1)
    return found


def main() -> None:
    """Print a row for each direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        meshes = [mesh for mesh in read_meshes(data_folder(), folder / "meshes.zip") if mesh.preview]
        groups = [mesh.base for seed in asked.seeds for mesh in np.array(meshes)[folds(meshes, 0) == seed]]
        for method in asked.methods:
            runs = {}
            for towers in (["pointcloud", "text"], ["pointcloud", "image", "text"]):
                each = [ranks(method, towers, meshes, seed, folder) for seed in asked.seeds]
                runs[len(towers)] = {way: np.concatenate([one[way] for one in each]) for way in each[0]}
            for way, rank in runs[3].items():
                line = f"{method:9} {way:19} hit@5 {np.mean(rank <= 5):.3f}  MRR {np.mean(1 / rank):.3f}"
                if way in runs[2]:
                    difference = 1 / rank - 1 / runs[2][way]
                    low, high = interval(difference, groups)
                    line += f", without pictures {np.mean(1 / runs[2][way]):.3f}"
                    line += f", difference {difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
                print(line, flush=True)


if __name__ == "__main__":
    main()
