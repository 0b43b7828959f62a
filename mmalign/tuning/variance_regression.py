"""Log-linear variance regression: maximum likelihood of squared distances, by Newton's method."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.errors import UserError

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Ridge penalties among which held-out rows choose."""

_STEPS, _HALVINGS = 100, 40
"""Newton steps, and halvings of one; the loss is convex, and about ten steps are enough."""


class VarianceMap(NamedTuple):
    """The log of an expected squared distance as a linear map of features: `features @ weight + bias`."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """The log of the expected squared distance, `(n,)` float64."""
        return features.double() @ self.weight + self.bias


def negative_log_likelihood(log_variance: Tensor, squared: Tensor) -> Tensor:
    r"""Negative log-likelihood per dimension of squared distances under isotropic Gaussians, `(n,)`.

    .. math:: -\frac{1}{D} \log N = \tfrac{1}{2} (\eta + d e^{-\eta}) + \text{const}

    with d the squared distance and eta the log of its expectation, the sum of D equal variances. Its derivative
    vanishes where `exp(eta)` is the mean of d.

    Args:
        log_variance: eta, `(n,)`.
        squared: d, `(n,)`.

    Example:
        >>> negative_log_likelihood(torch.zeros(1), torch.ones(1))
        tensor([0.5000])
    """
    return (log_variance + squared * (-log_variance).exp()) / 2


def fit_variance_map(features: Tensor, squared: Tensor, ridge: float) -> VarianceMap:
    r"""Heteroscedastic regression: the map that maximises the likelihood of squared distances.

    .. math:: \min_{w, b} \sum_i \tfrac{1}{2} (\eta_i + d_i e^{-\eta_i}) + \tfrac{\lambda}{2} s^2 |w|^2, \quad
              \eta_i = w \cdot x_i + b

    The features are centred; s is their root mean square over rows and columns, so that lambda does not depend on their
    unit. The loss is convex; Newton's method with step halving finds its only minimum (the multiplicative
    heteroscedastic regression of Harvey 1976, Econometrica 44, with a ridge penalty).

    Args:
        features: x, `(n, features)`.
        squared: d, `(n,)`, at least 0 and not all 0.
        ridge: lambda, above 0; the bias is not penalised.

    Returns:
        w and b in the features' own unit, float64.

    Raises:
        UserError: shapes do not fit, a value is not finite or below 0, all distances are 0, or the ridge is not above
            0.

    Example:
        >>> x = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> fit_variance_map(x, torch.tensor([1.0, 3.0, 8.0, 12.0]), 1e-9)(torch.tensor([[0.0], [1.0]])).exp().round()
        tensor([ 2., 10.], dtype=torch.float64)
    """
    if features.ndim != 2 or squared.shape != features.shape[:1] or not len(features):
        came = f"{tuple(features.shape)} and {tuple(squared.shape)}"
        raise UserError(f"variance regression: expected features (n, features) and n squared distances, got {came}")
    x, d = features.double(), squared.double()
    if not (bool(x.isfinite().all()) and bool(d.isfinite().all()) and bool((d >= 0).all())):
        raise UserError("variance regression: expected finite features and finite squared distances of at least 0")
    if not bool(d.any()):
        raise UserError("variance regression: expected some distance above 0, got only 0: there is nothing to explain")
    if not ridge > 0:
        raise UserError(f"ridge: expected a number above 0, got {ridge:g}")
    mean = x.mean(0)
    scale = (x - mean).square().mean().sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    design = torch.cat([(x - mean) / scale, torch.ones_like(x[:, :1])], 1)
    penalty = torch.full((design.shape[1],), float(ridge), dtype=torch.float64, device=x.device)
    penalty[-1] = 0.0
    weight = _newton(design, d, penalty)
    slope = weight[:-1] / scale
    return VarianceMap(slope, weight[-1] - slope @ mean)


def _newton(design: Tensor, squared: Tensor, penalty: Tensor) -> Tensor:
    def loss(weight: Tensor) -> Tensor:
        return negative_log_likelihood(design @ weight, squared).sum() + (penalty * weight.square()).sum() / 2

    weight = torch.zeros_like(penalty)
    weight[-1] = squared.mean().log()
    here = loss(weight)
    for _ in range(_STEPS):
        ratio = squared * (-(design @ weight)).exp()
        gradient = design.T @ (1 - ratio) / 2 + penalty * weight
        hessian = (design * ratio[:, None]).T @ design / 2 + penalty.diag()
        step = torch.linalg.solve(hessian, gradient)
        decrement, length = float(gradient @ step), 1.0
        if decrement < 1e-10 * len(design):
            break
        for _ in range(_HALVINGS):
            there = loss(weight - length * step)
            if bool(there <= here - 1e-4 * length * decrement):
                break
            length /= 2
        else:
            break  # rounding: no step lowers the loss
        weight, here = weight - length * step, there
    return weight


def choose_ridge(features: Tensor, squared: Tensor, held: Tensor, ridges: Sequence[float] = RIDGES) -> float:
    """The ridge penalty whose map, fitted to the other rows, has the highest likelihood on held-out rows.

    Args:
        features: `(n, features)`.
        squared: `(n,)`.
        held: `(n,)` booleans, True = held out; some rows are, and some are not.
        ridges: The candidates, ascending; the largest of equal ones is returned.
    """

    def held_out_loss(ridge: float) -> float:
        fitted = fit_variance_map(features[~held], squared[~held], ridge)
        return float(negative_log_likelihood(fitted(features[held]), squared[held].double()).mean())

    losses = {ridge: held_out_loss(ridge) for ridge in ridges}
    return min(reversed(ridges), key=losses.__getitem__)
