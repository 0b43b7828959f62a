"""One tower of a split with every sample perturbed, as batches."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign import registry
from mmalign.capabilities import Perturbing
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.types import Inputs


def perturbing(model: Aligner, tower: str, purpose: str = "robustness") -> Perturbing:
    """The modality of a tower, which perturbs samples; messages begin with `purpose`.

    Raises:
        UserError: it does not; the message names the modalities that do.
    """
    modality = model.modalities[tower]
    if isinstance(modality, Perturbing):
        return modality
    known = [name for name in registry.names("modalities") if isinstance(_loaded(name), Perturbing)]
    raise UserError(
        f"{purpose}: the modality {modality.name!r} of the tower {tower!r} has no perturbations; modalities that "
        f"have them: {', '.join(known) or 'none'}; choose another tower with --tower"
    )


def perturbed_batches(
    model: Aligner, data: Dataset, tower: str, split: str, *, name: str, level: float, seed: int, batch_size: int
) -> Iterator[tuple[Inputs, Tensor]]:
    """Every alternative of one tower, perturbed and collated, in the order of `Split.batches`.

    The random numbers of a sample depend on the seed, the id of its record, the alternative and the perturbation, so
    that they are the same at every level and in every order of the records.

    Args:
        model: Its transform makes the items, and its modality perturbs.
        data: Opened with the model's modalities, and the split read.
        tower: The tower.
        split: Whose records.
        name: The perturbation.
        level: Its level.
        seed: Seed of the perturbations.
        batch_size: Samples per batch.

    Returns:
        Collated inputs, and for each item the index of its record, `(items,)`.
    """
    modality, transform, part = perturbing(model, tower), model.transforms[tower], data.split(split)
    items = [
        (row, f"{record.id}\0{alternative}\0{name}")
        for row, record in enumerate(part.records)
        for alternative in range(len(record.values.get(tower, ())))
    ]

    def perturbed(key: str, sample: Any) -> Any:
        return modality.perturb(sample, transform, name, level, keyed_generator(seed, key))

    pairs = zip(items, part.samples(tower), strict=True)
    while chunk := list(islice(pairs, batch_size)):
        collated = transform.collate([transform.item(perturbed(key, sample)) for (_, key), sample in chunk])
        yield collated, torch.tensor([row for (row, _), _ in chunk], dtype=torch.long)


def keyed_generator(seed: int, key: str) -> np.random.Generator:
    """A random generator that depends on the seed and a key, such as a record's id, and not on any order."""
    return np.random.default_rng((seed, int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest())))


def _loaded(name: str) -> object:
    try:
        return registry.load("modalities", name)
    except UserError:  # its extra is not installed
        return None
