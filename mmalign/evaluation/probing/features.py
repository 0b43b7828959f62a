"""Features of a frozen tower, and a copy of the model with random weights as baseline."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import Floats
from mmalign.inference import run_batches
from mmalign.model import Aligner, TowerConfig
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.registry import nearest
from mmalign.types import Inputs

Kind = Literal["encoder", "embedding"]
KINDS = ("encoder", "embedding")


def sample_tower(model: Aligner, pair: tuple[str, str]) -> str:
    """The tower to probe, of two: the first whose samples are files or arrays, or the first."""
    files = [tower for tower in pair if not model.modalities[tower].value_is_sample]
    return (files or [*pair])[0]


def tower_features(
    model: Aligner, data: Dataset, tower: str, split: str, *, kind: str = "encoder", batch_size: int = 64
) -> tuple[Floats, Tensor]:
    """One vector per item of a split: features `(items, width)`, and the record index of each `(items,)`.

    Args:
        model: The model.
        data: The data; the split is read.
        tower: Name of the tower.
        split: Name of the split.
        kind: encoder, the input of the head, or embedding, the vectors of the shared space.
        batch_size: Items per forward pass.

    Raises:
        UserError: an unknown kind, no record of the split has a value of that tower, or features that are not finite.
    """
    if kind not in KINDS:
        raise UserError(f"no features called {kind!r}{nearest(kind, KINDS)}")

    def forward(inputs: Inputs) -> Tensor:
        output = model.embed(tower, inputs) if kind == "embedding" else model.encoders[tower](inputs)
        return output.vector.to("cpu", torch.float32)

    batches = data.split(split).batches(tower, model.transforms[tower], batch_size=batch_size)
    collected = run_batches(model, batches, forward, lambda outputs: torch.cat([*outputs]))
    if collected is None:
        raise UserError(f"no record of split {split!r} has a {tower!r}; see mmalign check for what each split holds")
    features = collected[0].double().numpy()
    if not np.isfinite(features).all():
        raise UserError(f"{tower}: expected finite features, got NaN or infinity")
    return features, collected[1]


def random_copy(model: Aligner, seed: int) -> Aligner:
    """The same architecture and transforms with random weights: the untrained baseline.

    Statistics of batch normalisation are as initialised.

    Args:
        model: The model whose configuration is copied.
        seed: Seed of the weights; the global generator is unchanged.
    """
    config = model.config()
    towers = {name: TowerConfig(**tower) for name, tower in config["towers"].items()}
    pairs = [PairConfig(**pair) for pair in config["pairs"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Aligner(towers, pairs, model.dim, model.transforms, model.codebook_config, model.gaussian_config)
    return fresh.to(model.device).eval()
