"""The operations that are killed: each writes into a folder, and says afterwards what state the folder is in."""

import importlib
import io
import json
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import mmalign
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.table import EmbeddingTable
from mmalign.errors import UserError

RECIPE = """
data: {source: manifest, manifest: t.csv, columns: {left: v, right: t}, validation: 0.25, batch_size: 4, cache_gb: 0.1}
model:
  dim: 8
  towers:
    left: {modality: vector, encoder: mlp, args: {hidden: 8, dropout: 0.2}, transform: {noise: 0.1}}
    right: {modality: text, args: {width: 8, depth: 1, heads: 2, dropout: 0.2}, transform: {max_length: 8}}
  pairs: [{a: left, b: right}]
trainer: {accelerator: cpu, max_epochs: 2, enable_progress_bar: false}
"""
ROWS = 16


def preload() -> None:
    """Import what the operations use, so that forked processes need not."""
    for name in ("mmalign.training.run", "mmalign.evaluation.run_task", "modalities.vector", "modalities.text"):
        importlib.import_module(name)
    for name in ("mmalign.evaluation.tasks.retrieval", "modalities.molecule", "modalities.molecule.cache.graph_cache"):
        importlib.import_module(name)


def prepare(folder: Path) -> None:
    """Write a recipe, a table, vectors and a picture."""
    rng = np.random.default_rng(0)
    (folder / "recipe.yaml").write_text(RECIPE)
    lines = [f"{index},{index}.npy,text {index} of {index % 3}" for index in range(ROWS)]
    (folder / "t.csv").write_text("\n".join(["id,v,t", *lines]) + "\n")
    for index in range(ROWS):
        np.save(folder / f"{index}.npy", rng.normal(size=4).astype(np.float32))
    (folder / "m.csv").write_text("m\nCCO\nC[C@H](N)C(=O)O\nc1ccccc1\n")


@dataclass(frozen=True)
class Operation:
    """Something that writes files.

    Args:
        name: Its name.
        before: Prepares the folder, undisturbed; None = nothing.
        run: Does it, and also goes on after a kill.
        check: After a kill and before going on: raises `AssertionError` if what is there is neither the former state,
            nor the new one, nor refused.
        result: What is compared, to the bit, with an undisturbed run.
    """

    name: str
    before: Callable[[], None] | None
    run: Callable[[], None]
    check: Callable[[], None]
    result: Callable[[], Any]


def _train(out: str, *flags: str) -> None:
    from mmalign.training.run import train

    with redirect_stdout(io.StringIO()):
        train("recipe.yaml", [f"--out={out}", "--checkpoint_every=1", *flags])


def train() -> None:
    """Train, or go on from the last checkpoint; without one, start again."""
    last = Path("run/checkpoints/last.ckpt")
    _train("run", *(["--resume"] if last.is_file() else ["--overwrite"] if Path("run").exists() else []))


def trained() -> Any:
    """Weights of the bundle, and the states in the last checkpoint."""
    saved = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "mmalign", "global_step", "epoch")
    return load_file("run/bundle/model.safetensors"), {key: saved[key] for key in keys}


def check_checkpoint() -> None:
    """A last checkpoint, where there is one, is whole."""
    from mmalign.training.checkpoints.resume import read_checkpoint

    if Path("run/checkpoints/last.ckpt").is_file():
        read_checkpoint(Path("run/checkpoints/last.ckpt"))


def train_first() -> None:
    """A finished run, and a second one of other weights."""
    _train("run")
    _train("other", "--seed_everything=7", "--model.towers.right.transform.max_length=6")


def save() -> None:
    """Save the other model over the bundle."""
    mmalign.save(mmalign.load("other"), "run/bundle")


def check_bundle() -> None:
    """The bundle is the former or the other one, as a whole, or is refused."""
    try:
        mmalign.load("run/bundle")
    except UserError as error:
        if "does not fit" not in str(error):
            raise
        return
    transforms = [Path(f"{folder}/bundle/transforms/right.json").read_bytes() for folder in ("run", "other")]
    weights = load_file("run/bundle/model.safetensors")
    expected = load_file("other/bundle/model.safetensors" if transforms[0] == transforms[1] else "first.safetensors")
    assert all(torch.equal(weights[name], expected[name]) for name in expected), "weights of one, settings of another"


def keep_first() -> None:
    """As `train_first`, with a copy of the first weights."""
    train_first()
    Path("first.safetensors").write_bytes(Path("run/bundle/model.safetensors").read_bytes())


def saved_bundle() -> Any:
    """Weights and transforms."""
    transforms = [path.read_text() for path in sorted(Path("run/bundle/transforms").glob("[!.]*"))]
    return load_file("run/bundle/model.safetensors"), transforms, mmalign.bundles.bundle.fingerprint("run")


def embed() -> None:
    """Embed into a table that exists."""
    data = DataConfig("manifest", "t.csv", columns={"left": "v", "right": "t"})
    mmalign.embed("other" if Path("e.parquet").exists() else "run", data, "right").write("e.parquet")


def embed_first() -> None:
    """The table of the first model."""
    train_first()
    embed()


def embedded() -> Any:
    """Its vectors and ids."""
    table = EmbeddingTable.read("e.parquet")
    return table.embedding.vector, list(table.ids)


def check_table() -> None:
    """The table is whole."""
    assert len(EmbeddingTable.read("e.parquet")) == ROWS


def evaluate() -> None:
    """Append a result to those of the bundle."""
    data = DataConfig("manifest", "t.csv", columns={"left": "v", "right": "t"})
    result = mmalign.evaluate("run", data, split="all", bootstrap=20)
    Path("r.json").write_text(json.dumps(result.scores, sort_keys=True))
    result.append_to("run")


def evaluate_first() -> None:
    """A finished run with one result."""
    _train("run")
    evaluate()


def evaluated() -> Any:
    """The scores."""
    results = json.loads(Path("run/bundle/results.json").read_text())
    return [json.loads(Path("r.json").read_text()), results[0]["scores"], results[-1]["scores"]]


def check_results() -> None:
    """The results are a list with the first one in it, and the model loads."""
    assert json.loads(Path("run/bundle/results.json").read_text())[0]["scores"]
    mmalign.load("run")


def cache() -> None:
    """Read molecules with a cache on disk."""
    _molecules()


def _molecules() -> list[Any]:
    from mmalign import registry

    config = DataConfig("manifest", "m.csv", columns={"molecule": "m"}, validation=0.0, cache="cache")
    data = Dataset.open(config, {"molecule": registry.load("modalities", "molecule")})
    return list(data.split("train").samples("molecule"))


def cached() -> Any:
    """The molecules, from the cache."""
    return [[np.asarray(value) for value in (one.atoms, one.bonds, one.ends)] for one in _molecules()]


def check_nothing() -> None:
    """Any state will do: a cache is built again."""


OPERATIONS = (
    Operation("train", None, train, check_checkpoint, trained),
    Operation("save", keep_first, save, check_bundle, saved_bundle),
    Operation("embed", embed_first, embed, check_table, embedded),
    Operation("evaluate", evaluate_first, evaluate, check_results, evaluated),
    Operation("cache", None, cache, check_nothing, cached),
)


def equal(a: Any, b: Any, where: str = "") -> list[str]:
    """Paths at which two nested states differ, to the bit."""
    if isinstance(a, torch.Tensor | np.ndarray):
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) else np.array_equal(a, b)
        return [] if same else [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{where} keys"]
        return [path for key in a for path in equal(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{where} length"]
        return [path for index, pair in enumerate(zip(a, b, strict=True)) for path in equal(*pair, f"{where}/{index}")]
    return [] if a == b else [f"{where}: {a} {b}"]


def leftovers() -> list[str]:
    """Partial files below the working folder."""
    return [str(path) for path in Path().rglob("*.partial*") if os.path.exists(path)]
