"""Variance regression: optimality by a float64 loop, group means in closed form, units, and the choice of the ridge."""

import math

import pytest
import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.tuning.variance_regression import choose_ridge, fit_variance_map, negative_log_likelihood


def drawn(rows: int = 60, features: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Squared distances whose expectation is log-linear in the features."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, generator=draw, dtype=torch.float64) * 3 + 1
    scale = (0.2 * x[:, 0] - 0.4 * x[:, 1] - 1).exp()
    return x, scale * torch.randn(rows, 16, generator=draw, dtype=torch.float64).square().mean(1)


def objective_of(x: list[list[float]], d: list[float], weight: list[float], bias: float, ridge: float) -> float:
    """The penalised loss as a loop over rows, written from the docstring."""
    rows, columns = len(x), len(x[0])
    means = [sum(row[k] for row in x) / rows for k in range(columns)]
    square = sum((row[k] - means[k]) ** 2 for row in x for k in range(columns)) / (rows * columns)
    total = 0.0
    for row, distance in zip(x, d, strict=True):
        eta = bias + sum(w * value for w, value in zip(weight, row, strict=True))
        total += (eta + distance * math.exp(-eta)) / 2
    return total + ridge / 2 * square * sum(w * w for w in weight)


@pytest.mark.parametrize("ridge", [1e-6, 0.5, 20.0])
def test_it_is_the_minimum_of_the_loop(ridge: float) -> None:
    x, d = drawn()
    fitted = fit_variance_map(x, d, ridge)
    weight, bias = fitted.weight.tolist(), float(fitted.bias)
    rows, distances = x.tolist(), d.tolist()
    best = objective_of(rows, distances, weight, bias, ridge)
    for place in range(5):  # central differences vanish in every direction, and any step is uphill
        step = 1e-4
        values = []
        for sign in (-1, 1):
            moved = [w + sign * step * (k == place) for k, w in enumerate(weight)]
            values.append(objective_of(rows, distances, moved, bias + sign * step * (place == 4), ridge))
        assert abs(values[1] - values[0]) / (2 * step) < 1e-4
        assert min(values) > best


def test_one_indicator_gives_the_means_of_its_groups() -> None:
    x = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.0]])
    fitted = fit_variance_map(x, torch.tensor([1.0, 2.0, 6.0, 10.0, 0.0]), 1e-10)
    torch.testing.assert_close(
        fitted(torch.tensor([[0.0], [1.0]])).exp(), torch.tensor([3.0, 5.0], dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_a_huge_ridge_leaves_the_mean() -> None:
    x, d = drawn()
    torch.testing.assert_close(fit_variance_map(x, d, 1e12)(x).exp(), d.mean().expand(60), rtol=1e-6, atol=0)


def test_predictions_do_not_depend_on_unit_origin_or_order() -> None:
    x, d = drawn()
    expected = fit_variance_map(x, d, 3.0)(x)
    torch.testing.assert_close(fit_variance_map(1e3 * x - 7, d, 3.0)(1e3 * x - 7), expected)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fit_variance_map(x[order], d[order], 3.0)(x), expected)
    torch.testing.assert_close(fit_variance_map(x, 5 * d, 3.0)(x), expected + math.log(5))


def test_it_finds_the_scale_that_was_drawn() -> None:
    x, d = drawn(4000)
    fitted = fit_variance_map(x, d, 1.0)
    torch.testing.assert_close(fitted.weight, torch.tensor([0.2, -0.4, 0.0, 0.0]).double(), atol=0.02, rtol=0)


def test_constant_features_and_extreme_values_are_finite() -> None:
    constant = fit_variance_map(torch.ones(5, 2), torch.arange(5.0), 1.0)
    torch.testing.assert_close(constant(torch.ones(1, 2)).exp(), torch.tensor([2.0]).double())
    x, _ = drawn()
    wild = fit_variance_map(x, torch.where(torch.arange(60) % 2 == 0, 1e12, 1e-12).double(), 1.0)
    assert wild(x).isfinite().all()


def test_the_likelihood_is_that_of_an_isotropic_gaussian() -> None:
    draw = torch.Generator().manual_seed(0)
    difference, eta = torch.randn(5, 8, generator=draw).double(), torch.randn(5, generator=draw).double()
    sd = (eta.exp() / 8).sqrt()[:, None].expand(-1, 8)
    exact = -torch.distributions.Normal(torch.zeros_like(sd), sd).log_prob(difference).mean(1)
    ours = negative_log_likelihood(eta, difference.square().sum(1))
    torch.testing.assert_close(exact - ours, (exact - ours)[0].expand(5))


def test_held_out_rows_choose_the_ridge() -> None:
    x, d = drawn(200, 30)
    held = torch.arange(200) % 5 == 0
    chosen = choose_ridge(x, d, held)
    assert 0.1 < chosen < 1000
    noise = d[torch.randperm(200, generator=torch.Generator().manual_seed(3))]
    assert choose_ridge(x, noise, held) > chosen
    assert choose_ridge(torch.ones(10, 1), d[:10], held[:10]) == 1000  # all equal: the strongest


@pytest.mark.parametrize(
    ("x", "d", "ridge", "message"),
    [
        (torch.ones(3), torch.ones(3), 1.0, r"features \(n, features\)"),
        (torch.ones(3, 2), torch.ones(2), 1.0, r"\(3, 2\) and \(2,\)"),
        (torch.ones(0, 2), torch.ones(0), 1.0, r"\(0, 2\)"),
        (torch.full((3, 2), torch.nan), torch.ones(3), 1.0, "finite features"),
        (torch.ones(3, 2), -torch.ones(3), 1.0, "at least 0"),
        (torch.ones(3, 2), torch.zeros(3), 1.0, "only 0"),
        (torch.ones(3, 2), torch.ones(3), 0.0, "above 0, got 0"),
        (torch.ones(3, 2), torch.ones(3), float("nan"), "above 0, got nan"),
    ],
)
def test_wrong_input_is_named(x: Tensor, d: Tensor, ridge: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_variance_map(x, d, ridge)
