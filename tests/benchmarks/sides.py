"""The two programs under one face: train by the same recipe in a process of their own, then embed held-out pairs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import Floats
from prepared import Prepared

HERE = Path(__file__).resolve().parent
Encode = Callable[[Sequence[str], Sequence[str]], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Recipe:
    """What both programs are told.

    Args:
        epochs: Passes over the training rows; the last incomplete batch of each is dropped.
        batch_size: Pairs a step.
        lr: Peak of linear warm-up and cosine to zero.
        weight_decay: Decoupled (AdamW); none on anything below two dimensions.
        warmup: Steps.
        clip: Largest norm of the whole gradient.
        crop: Smallest share of the area that the random crop keeps; proportions change by 3:4 to 4:3; bicubic.
        threads: Of torch.
        workers: Of the data loader.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 20
    clip: float = 1.0
    crop: float = 0.6
    threads: int = 2
    workers: int = 0


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Args:
        ends: When each optimiser step ended, seconds, by clock (`wall`) and by processor time (`processor`).
        seconds: How long the process lived.
        encode: Paths and captions -> their unit vectors.
    """

    ends: dict[str, list[float]]
    seconds: float
    encode: Encode


Train = Callable[[Prepared, Recipe, int, Path], Trained]


def open_clip(data: Prepared, recipe: Recipe, seed: int, out: Path) -> Trained:
    """`python -m open_clip_train.main`, and its last checkpoint under open_clip's own transforms."""
    model = f"local-dir:{data.model}"
    # fmt: off
    ends, seconds = _timed("open_clip_train.main", [
        "--model", model, "--train-data", str(data.train), "--dataset-type", "csv",
        "--csv-img-key", "filepath", "--csv-caption-key", "caption",
        "--logs", str(out.parent), "--name", out.name, "--save-frequency", "1", "--delete-previous-checkpoint",
        "--device", "cpu", "--precision", "fp32", "--seed", str(seed),
        "--epochs", str(recipe.epochs), "--batch-size", str(recipe.batch_size), "--workers", str(recipe.workers),
        "--lr", str(recipe.lr), "--wd", str(recipe.weight_decay), "--warmup", str(recipe.warmup),
        "--beta1", "0.9", "--beta2", "0.98", "--eps", "1e-8", "--grad-clip-norm", str(recipe.clip),
        "--aug-cfg", f"scale=({recipe.crop},1.0)",
    ], out, recipe)
    # fmt: on
    checkpoint = out / "checkpoints" / f"epoch_{recipe.epochs}.pt"

    def encode(pictures: Sequence[str], captions: Sequence[str]) -> tuple[Floats, Floats]:
        import open_clip as package
        import torch
        from PIL import Image

        towers, _, preprocess = package.create_model_and_transforms(model)
        package.load_checkpoint(towers, str(checkpoint))
        towers.eval()
        with torch.inference_mode():
            pixels = torch.stack([preprocess(Image.open(picture)) for picture in pictures])
            seen = torch.cat([towers.encode_image(part, normalize=True) for part in pixels.split(128)])
            said = towers.encode_text(package.get_tokenizer(model)(list(captions)), normalize=True)
        return seen.double().numpy(), said.double().numpy()

    return Trained(ends, seconds, encode)


def mmalign(data: Prepared, recipe: Recipe, seed: int, out: Path, *, positives: str = "record") -> Trained:
    """`python -m mmalign train`, and its bundle under `mmalign.load`."""
    tower = json.dumps({"model": str(data.model)})
    # mmalign counts the peak as the step after warm-up, open_clip as the last one of it.
    # fmt: off
    ends, seconds = _timed("mmalign", [
        "train", "image-text", "--out", str(out), "--seed_everything", str(seed),
        "--data.source", "manifest", "--data.manifest", str(data.train), "--data.validation", "0",
        "--data.columns.image", "file", "--data.columns.text", "caption", "--data.positives", positives,
        "--data.batch_size", str(recipe.batch_size), "--data.workers", str(recipe.workers),
        "--model.dim", "128",
        "--model.towers.image.encoder", "open_clip", f"--model.towers.image.args={tower}",
        f"--model.towers.image.transform={json.dumps({'random_crop': recipe.crop})}",
        "--model.towers.image.head", "identity",
        "--model.towers.text.encoder", "open_clip", f"--model.towers.text.args={tower}",
        "--model.towers.text.head", "identity",
        "--model.optimizer.lr", str(recipe.lr), "--model.optimizer.weight_decay", str(recipe.weight_decay),
        "--model.optimizer.beta1", "0.9", "--model.optimizer.beta2", "0.98", "--model.optimizer.eps", "1e-8",
        "--model.optimizer.warmup", str(recipe.warmup - 1), "--model.optimizer.final", "0",
        "--trainer.max_epochs", str(recipe.epochs), "--trainer.gradient_clip_val", str(recipe.clip),
        "--trainer.accelerator", "cpu",
    ], out, recipe)
    # fmt: on

    def encode(pictures: Sequence[str], captions: Sequence[str]) -> tuple[Floats, Floats]:
        import mmalign as package

        towers = package.load(out)
        seen = towers.encode("image", [Path(picture) for picture in pictures])
        said = towers.encode("text", list(captions))
        return seen.vector.double().numpy(), said.vector.double().numpy()

    return Trained(ends, seconds, encode)


def mmalign_by_content(data: Prepared, recipe: Recipe, seed: int, out: Path) -> Trained:
    """The same with mmalign's default: equal captions are positives of each other."""
    return mmalign(data, recipe, seed, out, positives="content")


def unit_rows(rows: Floats) -> Floats:
    """The rows, after a look that they are finite and of length one."""
    lengths = np.linalg.norm(rows, axis=1)
    if not np.allclose(lengths, 1.0, atol=1e-4):
        raise ValueError(f"expected unit vectors, got lengths {lengths.min():.4g} to {lengths.max():.4g}")
    return rows


def _timed(module: str, arguments: list[str], out: Path, recipe: Recipe) -> tuple[dict[str, list[float]], float]:
    """Run a module under the step clock; its output goes to `<out>.log`."""
    times, log = out.with_suffix(".times.json"), out.with_suffix(".log")
    environment: dict[str, Any] = {
        **os.environ,
        "OMP_NUM_THREADS": str(recipe.threads),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, str(HERE / "stepclock.py"), str(times), module, *arguments]
    started = time.perf_counter()
    with log.open("w") as handle:
        code = subprocess.run(command, stdout=handle, stderr=subprocess.STDOUT, env=environment).returncode
    seconds = time.perf_counter() - started
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{module} ended with exit code {code}:\n{tail}")
    return json.loads(times.read_text()), seconds
