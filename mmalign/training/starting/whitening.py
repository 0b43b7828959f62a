"""Whitening initialisation: a tower's head set in closed form from the vectors of its own samples, without pairs."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.heads import HeadSet
from mmalign.inference import run_batches
from mmalign.model import Aligner
from mmalign.registry import nearest
from mmalign.types import Features, Inputs

if TYPE_CHECKING:
    from mmalign.data.dataset import Dataset


@dataclass
class WhiteningConfig:
    """Whitening initialisation of towers' heads; each tower needs `head: affine`.

    Args:
        towers: Names of the towers, each whitened by its own samples; default: all.
        dims: Number of leading principal directions; null = the size of the shared space or of the encoder's vector,
            the smaller.
        ridge: Regularisation: added to each variance, relative to their mean. Choose it on validation rows.
    """

    towers: list[str] = field(default_factory=list)
    dims: int | None = None
    ridge: float = 0.1


def whitening_map(vectors: Tensor, dims: int | None = None, ridge: float = 0.1) -> tuple[Tensor, Tensor]:
    r"""PCA whitening of vectors: `y = W (x - m)` has uncorrelated coordinates of equal variance.

    .. math:: \tfrac1n \sum_i (x_i - m)(x_i - m)^\top = U \Lambda U^\top, \quad
              W = (\Lambda_k + \rho \bar\lambda I)^{-1/2} U_k^\top

    with the k largest eigenvalues and their mean over all directions (Su et al. 2021, arXiv 2103.15316, with a ridge;
    rotations, such as ZCA's, have the same cosines). Directions are in descending order of variance, so vectors can be
    truncated.

    Args:
        vectors: `(n, width)`.
        dims: k; None = all.
        ridge: rho, at least 0; without one, directions without variance are dropped.

    Returns:
        W `(k, width)` and m `(width,)`, float64.

    Raises:
        UserError: fewer than two rows, equal rows, NaN or infinity, or sizes that do not fit.

    Example:
        >>> x = torch.randn(500, 3) @ torch.tensor([[3.0, 1, 0], [0, 1, 0], [0, 0, 0.1]]) + 5
        >>> weight, mean = whitening_map(x, ridge=0.0)
        >>> torch.cov((weight @ (x.double() - mean).T), correction=0).abs().round(decimals=4)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]], dtype=torch.float64)
    """
    if vectors.ndim != 2 or len(vectors) < 2 or not bool(vectors.isfinite().all()):
        raise UserError(f"whitening: expected two or more rows of finite numbers, got shape {tuple(vectors.shape)}")
    width = vectors.shape[1]
    dims = width if dims is None else dims
    if not 1 <= dims <= width or not 0 <= ridge < float("inf"):
        raise UserError(f"whitening: expected dims from 1 to {width} and a ridge of at least 0, got {dims} and {ridge}")
    x = vectors.double()
    mean = x.mean(0)
    values, directions = torch.linalg.eigh(torch.cov((x - mean).T, correction=0).reshape(width, width))
    values, directions = values.flip(0).clamp(min=0)[:dims], directions.flip(1)[:, :dims]
    average = float((x - mean).square().mean())
    if not average > 0:
        raise UserError("whitening: expected vectors that differ, got equal rows")
    shrunk = values + ridge * average
    weights = torch.where(shrunk > 1e-12 * average, shrunk.clamp(min=1e-300).rsqrt(), 0.0)
    return weights[:, None] * directions.T, mean


@torch.no_grad()
def whiten_initialise(model: Aligner, data: "Dataset", config: WhiteningConfig, *, batch_size: int = 256) -> None:
    """Set the affine heads of towers by `whitening_map` of their training samples, all alternatives included.

    Args:
        model: The model before training.
        data: The data set, prepared, with the model's transforms attached.
        config: The settings.
        batch_size: Samples per forward pass.

    Raises:
        UserError: an unknown tower, a head that is not affine, more directions than there are, or too few samples.
    """
    for name in config.towers or list(model.towers):
        if name not in model.towers:
            raise UserError(f"model.whitening_init.towers: there is no tower {name!r}{nearest(name, model.towers)}")
        layer, encoder = _affine(model, name), model.encoders[name]
        most = min(layer.out_features, layer.in_features)
        dims = most if config.dims is None else config.dims
        if not 1 <= dims <= most:
            raise UserError(f"model.whitening_init.dims: expected from 1 to {most} for towers.{name}, got {dims}")
        batches = data.split("train").batches(name, model.transforms[name], batch_size=batch_size)
        outputs = run_batches(model, batches, partial(_vectors, encoder), _cat)
        if outputs is None or len(outputs[0]) < 2:
            raise UserError(f"model.whitening_init: fewer than two training samples have the tower {name!r}")
        weight, mean = whitening_map(outputs[0], dims, config.ridge)
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[:dims] = weight.to(layer.weight)
        layer.bias[:dims] = -(weight @ mean).to(layer.bias)


def _vectors(encoder: nn.Module, inputs: Inputs) -> Tensor:
    features: Features = encoder(inputs)
    return features.vector.double().cpu()


def _cat(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([*parts])


def _affine(model: Aligner, name: str) -> nn.Linear:
    head = model.heads[name]
    assert isinstance(head, HeadSet)
    layers = None if head.vector is None else head.vector.layers
    if not isinstance(layers, nn.Linear) or layers.bias is None:
        raise UserError(
            f"model.whitening_init: expected a tower whose vectors some objective reads and whose head is affine (it "
            f"subtracts the mean), got head {model.towers[name].head!r}; set towers.{name}.head: affine"
        )
    return layers
