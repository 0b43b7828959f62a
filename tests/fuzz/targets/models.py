"""What mmalign or its user writes: bundles, checkpoints, recipes, prompts, embedded tables, caches."""

import hashlib
import io
import json
import math
import random
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import mmalign
from mmalign import registry
from mmalign.bundles import bundle
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.table import EmbeddingTable
from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms, modality_of
from mmalign.objectives.pairs.pair_config import PairConfig
from tests.contract.test_modalities import SMALL
from tests.fuzz.case import Case, Nonsense, Target
from tests.fuzz.seeds.fixed import without_name
from tests.fuzz.seeds.reading import files_of, single

RECIPE = """
data: {source: manifest, manifest: t.csv, columns: {left: v, right: t}, validation: 0.25, batch_size: 4}
model:
  dim: 8
  towers:
    left: {modality: vector, encoder: mlp, args: {hidden: 8}}
    right: {modality: text, args: {width: 8, depth: 1, heads: 2}, transform: {max_length: 8}}
  pairs: [{a: left, b: right, objective: clip, args: {initial_scale: 10.0}}]
  optimizer: {lr: 0.001, warmup: 0.1}
trainer: {accelerator: cpu, max_epochs: 1, enable_progress_bar: false}
"""
PINNED = [
    "--trainer.max_steps=2",
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--data.source=manifest",
    "--data.workers=0",
    "--out=run",
]
"""Settings that a mutated recipe does not change: how long it runs, on how many records, and in how many processes."""

EMBEDDED = {
    "e.parquet": "float32",
    "e.arrow": "float32",
    "i.parquet": "int8",
    "b.arrow": "binary",
    "h.arrow": "float16",
}
"""File of an embedded table -> its precision."""

TABLE = "id,v,t\n" + "".join(f"{index},{index}.npy,text {index} of a few\n" for index in range(12))


def encoders() -> list[tuple[str, str]]:
    """Registered modalities and encoders that need no other model."""
    return [
        (modality, encoder)
        for modality in registry.names("modalities")
        for encoder in registry.load("modalities", modality).encoders
        if not any(str(value).startswith("<") for value in SMALL.get((modality, encoder), {}).values())
        and (modality, encoder) != ("echo", "image")
    ]


def bundle_case(modality: str, encoder: str, folder: Path) -> Case:
    """A bundle of two towers of one encoder, fitted on toy samples."""
    torch.manual_seed(0)
    towers = {
        name: TowerConfig(modality=modality, encoder=encoder, args=dict(SMALL.get((modality, encoder), {})))
        for name in ("left", "right")
    }
    toys = [modality_of("left", towers["left"]).toy_sample(label, np.random.default_rng(label)) for label in range(4)]
    model = Aligner(towers, [PairConfig("left", "right")], 4, fit_transforms(towers, dict.fromkeys(towers, toys)))
    mmalign.save(model.eval(), folder)
    return Case(files_of(folder), "./")


class Bundle:
    """Loads a bundle and embeds a toy sample of each tower."""

    def __init__(self, modality: str) -> None:
        self.modality = modality

    def __call__(self, folder: Any) -> None:
        _rehash(Path(folder))
        model = mmalign.load(folder)
        for name in model.towers:
            toy = model.modalities[name].toy_sample(1, np.random.default_rng(0))
            with torch.no_grad():
                vector = model.encode(name, [toy]).vector
            if vector.shape != (1, model.dim) or not bool(vector.isfinite().all()):
                raise Nonsense(f"an embedding of shape {tuple(vector.shape)}, or NaN in it")
        bundle.fingerprint(folder)


def _rehash(folder: Path) -> None:
    """In three of four cases, make the hashes right again: a bundle that was written so."""
    file = folder / "config.json"
    if not all(path.is_file() for path in folder.rglob("*") if path.name not in ("transforms", folder.name)):
        return  # one is a pipe or a folder
    try:
        config = json.loads(file.read_bytes())
        names = [*config["files"]]
        if random.Random(file.read_bytes()).random() < 0.25:
            return
        config["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    file.write_text(json.dumps(config))


def use_recipe(path: Any) -> None:
    """Train two steps by a recipe, with the data beside it."""
    from mmalign.training.run import train

    for index in range(12):
        np.save(f"{index}.npy", np.full(4, index, np.float32))
    Path("t.csv").write_text(TABLE)
    with redirect_stdout(io.StringIO()):
        train(str(path), PINNED)
    mmalign.load("run")


def use_recipe_keys(path: Any) -> None:
    """Parse a recipe: every key and value, down to the trainer; no data are read."""
    from mmalign.training.settings.parsing import parse

    parse(str(path), ["--out=run", "--trainer.accelerator=cpu", "--trainer.logger=null"])


def use_negatives(path: Any) -> None:
    """Reads mined negatives of three records."""
    from mmalign.data.batching.negatives_file import read_negatives

    table = read_negatives(path, ["a", "b", "c"], 4)
    if table.shape != (3, 4) or table.min() < -1 or table.max() > 2 or (table == np.arange(3)[:, None]).any():
        raise Nonsense("negatives that are no other records")


def negatives(folder: Path) -> dict[str, Case]:
    """Mined negatives in both formats."""
    from mmalign.data.batching.negatives_file import COLUMNS, write_negatives

    rows = [("a", "b", 0, 0.5, 0.9, None), ("b", "c", 2, 0.25, 0.9, 0.5), ("c", "a", 1, -0.5, 0.75, None)]
    cases = {}
    for name in ("n.csv", "n.parquet"):
        write_negatives(dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True)), folder / name)
        cases[name] = single(name, (folder / name).read_bytes())
    return cases


def use_prompts(path: Any) -> None:
    """The three kinds of prompts; a file is of one of them."""
    from mmalign.evaluation.prompts.class_prompts import Prompts
    from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts, ValuePrompts

    refusals = []
    for kind in (Prompts, ClassPrompts, ValuePrompts):
        try:
            prompts = kind.load(path)
        except UserError as error:
            refusals.append(error)
            continue
        texts = (
            [text for name in prompts.classes for text in prompts.texts(name)] if isinstance(prompts, Prompts) else []
        )
        texts += [] if isinstance(prompts, Prompts) else prompts.sentences()
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise Nonsense("a prompt without text")
        if isinstance(prompts, ValuePrompts) and not all(map(math.isfinite, prompts.values)):
            raise Nonsense("a value that is not finite")
        _ = prompts.hash
    if len(refusals) == 3:
        raise refusals[0]


def use_embedded(path: Any) -> None:
    """An embedded table: finite vectors, one id and one label list for each."""
    table = EmbeddingTable.read(path)
    vector = table.embedding.vector
    if not bool(vector.isfinite().all()) or vector.ndim != 2:
        raise Nonsense(f"vectors of shape {tuple(vector.shape)}, or NaN in them")
    if len({len(table.ids), len(table.labels), len(table.values), len(table.locations), len(vector)}) != 1:
        raise Nonsense("columns of several lengths")
    if not all(isinstance(one, str) for one in (*table.ids, *table.locations)):
        raise Nonsense("an id that is no text")


def use_checkpoint(path: Any) -> None:
    """A bundle from a checkpoint."""
    from mmalign.training.checkpoints.checkpoint_bundle import bundle_from_checkpoint

    mmalign.load(bundle_from_checkpoint(path, "made"))


SMILES = ("CCO", "C[C@H](N)C(=O)O", "C1CC", "c1ccccc1O")


def use_molecule_cache(path: Any) -> None:
    """A damaged cache is built again: its molecules are those that are read."""
    molecule = registry.load("modalities", "molecule")
    Path("m.csv").write_text("\n".join(["smiles", *SMILES]) + "\n")
    columns, cache = {"molecule": "smiles"}, str(Path(path).parent)
    config = DataConfig("manifest", "m.csv", columns=columns, validation=0.0, cache=cache, max_rejected=1.0)
    data = Dataset.open(config, {"molecule": molecule}, accept_all=True)
    wanted = [molecule.read(smiles) for smiles in SMILES if smiles != "C1CC"]
    if len(data.rejected) != 1 or list(data.split("train").samples("molecule")) != wanted:
        raise Nonsense("a cached molecule is another one")


def use_sample_cache(path: Any) -> None:
    """A damaged cache of samples is refused, or its samples are those of the files."""
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    Path("p.png").write_bytes(_png(pixels))
    Path("t.csv").write_text("file\np.png\n")
    image = registry.load("modalities", "image")
    config = DataConfig("manifest", "t.csv", columns={"image": "file"}, validation=0.0, cache=str(Path(path).parent))
    for sample in Dataset.open(config, {"image": image}).split("train").samples("image"):
        if not np.array_equal(sample, pixels):
            raise Nonsense("a cached sample is another one")


def _png(pixels: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _run(folder: Path) -> tuple[Case, dict[str, Case], Case]:
    """A checkpoint, embedded tables and a cache, as mmalign writes them."""
    import os

    here = os.getcwd()
    os.chdir(folder)
    try:
        (folder / "recipe.yaml").write_text(RECIPE)
        use_recipe(folder / "recipe.yaml")
        saved = (folder / "run/checkpoints/last.ckpt").read_bytes()
        checkpoint = single("last.ckpt", without_name(saved, folder.parent.name))
        table = mmalign.embed("run", DataConfig("manifest", "t.csv", columns={"right": "t"}), "right")
        tables = {}
        for name, precision in EMBEDDED.items():
            table.at(precision).write(folder / name)
            tables[name] = single(name, (folder / name).read_bytes())
        (folder / "cache").mkdir()
        use_molecule_cache(folder / "cache" / "any")
        (folder / "samples").mkdir()
        use_sample_cache(folder / "samples" / "samples.sqlite")
    finally:
        os.chdir(here)
    cached = files_of(folder / "cache")
    name = next(iter(cached))
    return checkpoint, tables, Case(cached, name)


def model_targets(folder: Callable[[], Path]) -> list[Target]:
    """Everything of this file; `folder` gives empty folders."""
    place = folder()
    checkpoint, embedded, molecules = _run(place)
    samples = single("samples.sqlite", (place / "samples" / "samples.sqlite").read_bytes())
    recipes = {str(path.relative_to(path.parents[1])): single("r.yaml", path.read_bytes())
               for path in sorted(mmalign.recipes.folder().glob("*/*.yaml"))}  # fmt: skip
    prompts = {str(path.parent.parent.name + "/" + path.name): single("p.yaml", path.read_bytes())
               for path in sorted(mmalign.recipes.folder().glob("*/prompts/*.yaml"))}  # fmt: skip
    prompts |= {
        "classes": single(
            "p.yaml", yaml.safe_dump({"templates": ["a {}."], "classes": {"dog": ["dog", "puppy"]}}).encode()
        ),
        "contrast": single("p.yaml", yaml.safe_dump({"dog": {"positive": ["a dog"], "negative": ["no dog"]}}).encode()),
        "values": single("p.yaml", yaml.safe_dump({"values": [1, 2.5], "templates": ["EF {value}"]}).encode()),
    }
    targets = [
        Target("recipe", {"small": single("r.yaml", RECIPE.encode())}, use_recipe, 0.3),
        Target("recipe keys", recipes, use_recipe_keys, 0.1),
        Target("prompts", prompts, use_prompts),
        Target("negatives", negatives(folder()), use_negatives),
        Target("checkpoint", {"last": checkpoint}, use_checkpoint),
        Target("embedded table", embedded, use_embedded),
        Target("cache of molecules", {"four": molecules}, use_molecule_cache),
        Target("cache of samples", {"one": samples}, use_sample_cache),
    ]
    for modality, encoder in encoders():
        seeds = {encoder: bundle_case(modality, encoder, folder())}
        targets.append(Target(f"bundle {modality} {encoder}", seeds, Bundle(modality), 0.3))
    return targets
