"""Fitted variances: the formula, which features are read, and what a model with one still computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmalign
from mmalign.errors import UserError
from mmalign.heads.fitted_variance import MAX_FEATURES, FittedVariance, variance_features
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig


class Linear(nn.Module):
    """An encoder with linear features, of some layout and width."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def linear_features(self, inputs: dict[str, Any]) -> Tensor:
        return self.features

    def set_linear_weights(self, weight: Tensor) -> None:
        """Not needed here."""


def vectors_only(objective: str = "clip") -> Aligner:
    towers = {name: TowerConfig(modality="vector", args={"width": 4}) for name in ("left", "right")}
    torch.manual_seed(0)
    transforms = fit_transforms(towers, {"left": [], "right": []})
    return Aligner(towers, [PairConfig("left", "right", objective)], 3, transforms)


def with_variance() -> Aligner:
    model = vectors_only()
    model.variances["left"] = FittedVariance(4, 3)
    with torch.no_grad():
        model.variances["left"].get_parameter("weight").copy_(torch.tensor([1.0, -2.0, 0.5, 0.0]))
        model.variances["left"].get_parameter("bias").fill_(0.25)
    return model


ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -0.5, 0.0, 9.0]]


def test_uncertainty_is_the_exponential_of_a_linear_map() -> None:
    embedding = with_variance().encode("left", ROWS)
    expected = torch.tensor([1.0 - 4.0 + 1.5 + 0.25, 0.5 + 1.0 + 0.25]).exp()
    torch.testing.assert_close(embedding.uncertainty, expected)
    assert embedding.log_variance is not None
    assert embedding.log_variance.shape == (2, 3)
    assert (embedding.log_variance == embedding.log_variance[:, :1]).all()


def test_vectors_and_scores_are_equal_to_the_bit() -> None:
    plain, fitted = vectors_only(), with_variance()
    a, b = plain.encode("left", ROWS), fitted.encode("left", ROWS)
    right = plain.encode("right", ROWS)
    assert a.log_variance is None
    assert torch.equal(a.vector, b.vector)
    assert torch.equal(plain.similarity(a, right), fitted.similarity(b, right))
    assert fitted.encode("right", ROWS).log_variance is None


def test_an_empty_embedding_has_the_same_fields() -> None:
    empty = with_variance().encode("left", [])
    assert empty.log_variance is not None
    assert empty.log_variance.shape == (0, 3)


def test_a_bundle_keeps_it(tmp_path: Path) -> None:
    model = with_variance()
    mmalign.save(model, tmp_path / "bundle")
    loaded = mmalign.load(tmp_path / "bundle")
    assert model.config()["variances"] == {"left": 4}
    assert torch.equal(loaded.encode("left", ROWS).uncertainty, model.encode("left", ROWS).uncertainty)


def test_a_model_without_one_has_neither_key_nor_weights() -> None:
    model = vectors_only()
    assert "variances" not in model.config()
    assert not any("variance" in key for key in model.state_dict())


@pytest.mark.parametrize(("widths", "message"), [({"lef": 4}, "no tower called 'lef'"), ({"left": 0}, "one feature")])
def test_a_wrong_description_is_refused(widths: dict[str, int], message: str) -> None:
    model = vectors_only()
    with pytest.raises(UserError, match=message):
        Aligner(model.towers, model.pairs, 3, model.transforms, variances=widths)


def test_a_tower_whose_scores_read_variances_is_refused() -> None:
    model = vectors_only("pcmepp")
    with pytest.raises(UserError, match="trains its variances"):
        model.variances.check("left")


def test_dense_linear_features_stand_before_the_vector() -> None:
    vector, dense = torch.zeros(2, 3), torch.ones(2, 5)
    assert variance_features(Linear(dense), {}, vector) is dense
    for other in (dense.to_sparse(), torch.ones(2, MAX_FEATURES + 1)):
        assert variance_features(Linear(other), {}, vector) is vector
    assert variance_features(nn.Identity(), {}, vector) is vector


def test_no_gradient_reaches_features_or_weights() -> None:
    head = FittedVariance(3, 2)
    features = torch.ones(1, 3, requires_grad=True)
    assert not head(features).requires_grad
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_low_precision_is_computed_in_single_precision() -> None:
    model = with_variance()
    with torch.autocast("cpu", torch.bfloat16):
        low = model.variances["left"](torch.tensor(ROWS))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, model.variances["left"](torch.tensor(ROWS)), rtol=0, atol=0)


def test_the_field_is_replaced_not_the_embedding() -> None:
    model = with_variance()
    inputs = model.transforms["left"].collate(
        [model.transforms["left"].item(torch.tensor(row).numpy()) for row in ROWS]
    )
    embedding = model.embed("left", inputs)
    plain = model.heads["left"](model.encoders["left"](inputs), "left", None)
    assert replace(embedding, log_variance=None).vector.equal(plain.vector)
