"""CCA initialisation: set the towers' linear layers by regularised canonical correlation analysis."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_array, issparse, vstack
from torch import Tensor

from mmalign.capabilities import LinearFeatures
from mmalign.errors import UserError
from mmalign.heads import HeadSet
from mmalign.inference import run_batches
from mmalign.modality import Encoder
from mmalign.model import Aligner
from mmalign.training.starting.cca.cca import canonical_maps, shared_maps
from mmalign.training.starting.cca.truncated_svd import Rows
from mmalign.types import Inputs

if TYPE_CHECKING:
    from mmalign.data.dataset import Dataset


@dataclass
class CCAConfig:
    """CCA initialisation of the towers' linear layers.

    Args:
        towers: Names of two or more towers; default: all towers in pairs.
        ridge: Tower -> ridge penalty in units of training rows; larger = stronger regularisation, for noisier towers.
            Default 1 for each. Choose it on validation rows.
        power: Each shared direction is weighted by its correlation to this power.
    """

    towers: list[str] = field(default_factory=list)
    ridge: dict[str, float] = field(default_factory=dict)
    power: float = 1.0


def cca_initialise(model: Aligner, data: "Dataset", config: CCAConfig, *, batch_size: int = 256) -> None:
    """Set the linear maps of two towers by `canonical_maps`, of more towers by `shared_maps`, on the training rows.

    For an encoder with `linear_features`, its linear layer is set and the head becomes the identity; for any other
    encoder, with its current weights, the head is set. Rows with fewer than two of the towers are left out; of several
    alternatives the first is used.

    Args:
        model: The model before training.
        data: The data set, prepared, with the model's transforms attached.
        config: The settings.
        batch_size: Samples per forward pass.

    Raises:
        UserError: fewer than two towers, a head that is not linear, or too few training rows.
    """
    names = _towers(model, config)
    unknown = set(config.ridge) - set(names)
    if unknown:
        raise UserError(f"model.cca_init.ridge: expected {' and '.join(names)}, got {', '.join(sorted(unknown))}")
    room = min(_room(model, name) for name in names)
    features = [_features(model, data, name, batch_size) for name in names]
    records = sorted(set().union(*(indices for _, indices in features)))
    present = np.array([[record in indices for _, indices in features] for record in records])
    paired = present.sum(1) > 1  # of two towers: both, as CCA needs
    if paired.sum() < 2:
        towers = f"both {' and '.join(names)}" if len(names) == 2 else f"two or more of {', '.join(names)}"
        raise UserError(f"model.cca_init: {paired.sum()} training rows have {towers}; expected two or more")
    chosen = [records[index] for index in np.flatnonzero(paired)]
    rows = [values[[indices.get(record, 0) for record in chosen]] for values, indices in features]
    ridge = [config.ridge.get(name, 1.0) for name in names]
    if len(names) == 2:
        maps = list(canonical_maps(rows[0], rows[1], room, ridge=(ridge[0], ridge[1]), power=config.power))
    else:
        maps = shared_maps(rows, present[paired], room, ridge=ridge, power=config.power)
    for name, weight in zip(names, maps, strict=True):
        _set(model, name, weight)


def _towers(model: Aligner, config: CCAConfig) -> list[str]:
    paired = list(dict.fromkeys(name for pair in model.pairs for name in (pair.a, pair.b)))
    names = config.towers or paired
    if len(set(names)) < max(2, len(names)) or not set(names) <= set(paired):
        raise UserError(
            f"model.cca_init.towers: expected two or more of the paired towers ({', '.join(paired)}), "
            f"got {', '.join(names) or 'none'}"
        )
    return names


def _features(model: Aligner, data: "Dataset", name: str, batch_size: int) -> tuple[Rows, dict[int, int]]:
    """Features of the training rows' first alternatives, and the row of each record."""
    encoder = model.encoders[name]
    assert isinstance(encoder, Encoder)

    def forward(inputs: Inputs) -> Rows:
        return _plain(
            encoder.linear_features(inputs) if isinstance(encoder, LinearFeatures) else encoder(inputs).vector
        )

    def join(blocks: Iterable[Rows]) -> Rows:
        every = [*blocks]
        return vstack(every).tocsr() if issparse(every[0]) else np.concatenate(every)

    batches = data.split("train").batches(name, model.transforms[name], batch_size=batch_size)
    outputs = run_batches(model, batches, forward, join)
    if outputs is None:
        raise UserError(f"model.cca_init: no training row has the tower {name!r}")
    features, owners = outputs[0], outputs[1].tolist()
    first = {record: index for index, record in reversed(list(enumerate(owners)))}
    return features, first


def _plain(features: Tensor) -> Rows:
    if features.is_sparse:
        features = features.coalesce().cpu()
        return csr_array((features.values().double().numpy(), features.indices().numpy()), shape=tuple(features.shape))
    return features.double().cpu().numpy()


def _head(model: Aligner, name: str) -> Any:
    head = model.heads[name]
    assert isinstance(head, HeadSet)
    if head.vector is None:
        raise UserError(f"model.cca_init: no objective reads the vector of {name!r}, so there is no map to set")
    layers = head.vector.layers
    if not isinstance(layers, torch.nn.Linear | torch.nn.Identity):
        raise UserError(f"model.cca_init: towers.{name}.head must be linear or identity, not mlp")
    return layers


def _room(model: Aligner, name: str) -> int:
    """Maximum number of directions of the tower's map."""
    encoder, layers = model.encoders[name], _head(model, name)
    assert isinstance(encoder, Encoder)
    if not isinstance(encoder, LinearFeatures) and not isinstance(layers, torch.nn.Linear):
        raise UserError(f"model.cca_init: towers.{name} has no linear map: set its head to linear")
    return min(model.dim, encoder.width) if isinstance(encoder, LinearFeatures) else model.dim


def _set(model: Aligner, name: str, weight: Tensor) -> None:
    encoder, layers = model.encoders[name], _head(model, name)
    assert isinstance(encoder, Encoder)
    with torch.no_grad():
        if isinstance(encoder, LinearFeatures):
            encoder.set_linear_weights(torch.nn.functional.pad(weight, (0, encoder.width - weight.shape[1])))
            if isinstance(layers, torch.nn.Linear):
                torch.nn.init.eye_(layers.weight)
        else:
            layers.weight.zero_()
            layers.weight[: weight.shape[1]] = weight.T
