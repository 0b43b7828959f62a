"""`mmalign.fit_variance`: a variance for one tower of a frozen model, by how far perturbations move its embeddings."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.bundles import bundle
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import opened
from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import spearman
from mmalign.heads import FittedVariance
from mmalign.model import Aligner
from mmalign.safe_io.printable import printable
from mmalign.selection import model_of, require_tower
from mmalign.tuning.perturbed_pairs import PerturbedPairs, ladder_of, perturbed_pairs
from mmalign.tuning.variance_regression import (
    VarianceMap,
    choose_ridge,
    fit_variance_map,
    negative_log_likelihood,
)

HELD = 5
"""One group (patient) in five is held out to choose the ridge penalty and to measure the fit."""


@dataclass(frozen=True)
class VarianceFit:
    """A model with a fitted variance, and the fit on held-out records.

    Args:
        model: The model; its vectors and scores are those of the model that was given, to the bit.
        tower: The tower with the variance.
        scores: `samples`, `held_out`, `ridge`, `features`; on held-out samples `spearman` (of variance and squared
            distance) and `log_likelihood_gain` (mean per dimension, above one variance for all samples); `levels`, a
            table with the mean squared distance and the mean variance at each level of each perturbation.
        folder: The bundle, if it was written.
    """

    model: Aligner
    tower: str
    scores: Mapping[str, Any]
    folder: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Tower and scores as JSON values."""
        return {"tower": self.tower, **self.scores}

    def show(self) -> None:
        """Print the table of levels and the fit."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        scores = self.scores
        table = Table("perturbation", "level", "n", "squared distance", "variance", title="held-out samples, means")
        for row in scores["levels"]:
            numbers = (f"{row[name]:.4g}" for name in ("squared_distance", "variance"))
            table.add_row(Text(printable(row["perturbation"])), f"{row['level']:g}", str(row["n"]), *numbers)
        Console().print(table)
        print(
            f"{printable(self.tower)}: fitted to {scores['samples']} perturbed samples, ridge {scores['ridge']:g}; on "
            f"{scores['held_out']} held-out ones: rank correlation of variance and squared distance "
            f"{scores['spearman']:.3f}, log-likelihood above one variance for all {scores['log_likelihood_gain']:+.3f}"
        )


def fit_variance(
    model: Aligner | str | Path,
    data: DataConfig | Dataset,
    *,
    tower: str,
    out: str | Path | None = None,
    perturbations: Sequence[str] = (),
    copies: int = 1,
    samples: int = 5000,
    ridge: float | None = None,
    split: str = "train",
    batch_size: int = 64,
    seed: int = 0,
    device: str = "auto",
) -> VarianceFit:
    r"""Fit a variance to one tower of a frozen model: the expected squared distance that a perturbation causes.

    Each sample of the split is perturbed (`Perturbing`) at random levels. With the unit vectors v of the sample and v'
    of its perturbed copy, and features x' of the copy (`heads.fitted_variance.variance_features`):

    .. math:: \|v' - v\|^2 = d, \quad \eta = w \cdot x' + b, \quad \min_{w, b} \sum \tfrac{1}{2} (\eta + d e^{-\eta})
              + \tfrac{\lambda}{2} s^2 |w|^2

    (`tuning.variance_regression.fit_variance_map`; labels and partners are not read.) `exp(eta)` is the embedding's
    `uncertainty`. Vectors and scores of the model do not change; a former fitted variance of the tower is replaced.

    Args:
        model: A model, or the path of a bundle or run; not changed.
        data: The configuration of the data, or data that are open.
        tower: The tower; its modality must have perturbations, and its objectives must not train variances.
        out: Folder of the bundle to write; None = it is not written.
        perturbations: Perturbations of the tower's modality, of which each copy gets one at one of its levels; default:
            all.
        copies: Perturbed copies of each sample.
        samples: Maximum number of samples.
        ridge: Ridge penalty; None = the one of highest likelihood on a fifth of the groups.
        split: Split to fit to; the records that are evaluated must not be in it.
        batch_size: Samples per forward pass.
        seed: Seed of the samples, the perturbations and the held-out groups.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Raises:
        UserError: the modality has no perturbations, the tower's objectives train variances, a number is out of its
            range, there are fewer than two groups, or no perturbation moves an embedding.

    Example:
        >>> import mmalign
        >>> fit = mmalign.fit_variance("runs/first", mmalign.DataConfig("digits"), tower="image")  # doctest: +SKIP
        >>> fit.show()  # doctest: +SKIP
    """
    for name, value in (("copies", copies), ("samples", samples), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"--{name}: expected at least 1, got {value}")
    if ridge is not None and not ridge > 0:
        raise UserError(f"--ridge: expected a number above 0, got {ridge:g}")
    loaded = model_of(model, device)
    require_tower(loaded, tower)
    loaded.variances.check(tower)
    ladder = ladder_of(loaded, tower, perturbations)  # refuses before the data are read
    read = opened(loaded, data, [tower], split, keep_samples=True)
    pairs = perturbed_pairs(
        loaded, read, tower, split, ladder, copies=copies, samples=samples, seed=seed, batch_size=batch_size
    )
    held = _held_out(pairs, seed)
    chosen = choose_ridge(pairs.features, pairs.squared, held) if ridge is None else ridge
    trial = fit_variance_map(pairs.features[~held], pairs.squared[~held], chosen)
    scores = {"samples": len(held), "held_out": int(held.sum()), "ridge": chosen, "features": pairs.features.shape[1]}
    scores |= _fit_figures(trial, pairs, held)
    fitted = copy.deepcopy(loaded)
    fitted.path = None  # it is no longer the bundle
    final = fit_variance_map(pairs.features, pairs.squared, chosen)
    fitted.variances[tower] = _as_head(final, fitted.dim).to(loaded.device)
    if out is None:
        return VarianceFit(fitted, tower, scores)
    how = {"tower": tower, "perturbations": list(ladder), "copies": copies, "split": split, "seed": seed, **scores}
    provenance = {**loaded.provenance, "fitted_variance": how}
    return VarianceFit(fitted, tower, scores, bundle.save(fitted, out, provenance=provenance))


def _held_out(pairs: PerturbedPairs, seed: int) -> Tensor:
    """Rows of one group in five, at least one group: the copies of a sample, and the samples of a patient, together."""
    groups = np.unique(pairs.groups)
    if len(groups) < 2:
        raise UserError("variance: expected samples of at least two records or groups, got one")
    few = np.random.default_rng((seed, 1)).permutation(groups)[: max(1, len(groups) // HELD)]
    return torch.from_numpy(np.isin(pairs.groups, few))


def _fit_figures(fitted: VarianceMap, pairs: PerturbedPairs, held: Tensor) -> dict[str, Any]:
    eta, squared = fitted(pairs.features[held]), pairs.squared[held]
    constant = torch.full_like(eta, float(pairs.squared[~held].mean().log()))
    gain = (negative_log_likelihood(constant, squared) - negative_log_likelihood(eta, squared)).mean()
    kinds = [kind for kind, is_held in zip(pairs.kinds, held.tolist(), strict=True) if is_held]
    levels = []
    for name, level in sorted(set(kinds), key=lambda kind: (kind[0], kind[1])):
        rows = torch.tensor([kind == (name, level) for kind in kinds])
        means = {"squared_distance": float(squared[rows].mean()), "variance": float(eta[rows].exp().mean())}
        levels.append({"perturbation": name, "level": level, "n": int(rows.sum()), **means})
    rank = float(spearman(squared.numpy(), eta.numpy())[0])
    return {"spearman": rank, "log_likelihood_gain": float(gain), "levels": levels}


def _as_head(fitted: VarianceMap, dim: int) -> FittedVariance:
    head = FittedVariance(len(fitted.weight), dim)
    with torch.no_grad():
        head.weight.copy_(fitted.weight)
        head.bias.fill_(float(fitted.bias))
    return head
