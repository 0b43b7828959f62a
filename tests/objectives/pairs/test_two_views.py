"""Two views of each sample: settings, which embeddings a self-pair compares, and the warning."""

import logging

import pytest
import torch

from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.functional import clip_loss
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.two_views import check_views
from mmalign.types import Batch


def test_views_of_a_tower_that_no_pair_compares_are_refused() -> None:
    check_views([PairConfig("x", "x", "clip")], {"x": "augmentation"}, ["x"])
    check_views([PairConfig("x", "y", "clip")], None, ["x", "y"])
    with pytest.raises(UserError, match=r"data\.views\.x: no pair compares two views of 'x'"):
        check_views([PairConfig("x", "y", "clip")], {"x": "augmentation"}, ["x", "y"])
    with pytest.raises(UserError, match="no such tower"):
        check_views([PairConfig("x", "x", "clip")], {"z": "augmentation"}, ["x"])


def model(objective: str = "clip", dropout: float = 0.0) -> Aligner:
    torch.manual_seed(0)
    args = {"width": 4, "hidden": 6, "dropout": dropout}
    towers = {"x": TowerConfig(modality="vector", encoder="mlp", args=args)}
    pairs = [PairConfig("x", "x", objective, {} if objective == "apart" else {"initial_scale": 7.0})]
    return Aligner(towers, pairs, 5, fit_transforms(towers, {"x": []}))


def batch(built: Aligner, *, again: bool) -> Batch:
    rows = torch.arange(6)
    collate = built.transforms["x"].collate
    first, second = (collate(list(torch.randn(6, 4).numpy())) for _ in range(2))
    return Batch({"x": first}, {"x": rows}, rows, rows, again={"x": second} if again else {})


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_compares_the_first_view_with_the_second(training: bool) -> None:
    built = model().train(training)
    both = batch(built, again=True)
    with torch.no_grad():
        first, second = (built.embed("x", inputs["x"]).vector for inputs in (both.inputs, both.again))  # type: ignore[arg-type]
        wanted = clip_loss(first, second, 7.0)
        torch.testing.assert_close(built.loss(both).loss, wanted)
        assert not torch.isclose(wanted, clip_loss(first, first, 7.0))


@pytest.mark.parametrize(
    ("objective", "dropout", "again", "warnings"),
    [("clip", 0.0, False, 1), ("clip", 0.5, False, 0), ("clip", 0.0, True, 0), ("apart", 0.0, False, 0)],
)
def test_equal_views_give_one_warning(
    objective: str, dropout: float, again: bool, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    built = model(objective, dropout).train()
    with caplog.at_level(logging.WARNING, "mmalign"):
        for _ in range(2):
            built.loss(batch(built, again=again))
    assert caplog.text.count("the two views of x are equal") == warnings


def test_a_batch_of_none_and_of_one_has_a_finite_loss(caplog: pytest.LogCaptureFixture) -> None:
    built = model().train()
    both = batch(built, again=True)
    none = Batch({}, {"x": torch.zeros(0, dtype=torch.int64)}, torch.zeros(0).long(), torch.zeros(0).long())
    built.loss(none).loss.backward()
    one = {"x": {name: value[:1] for name, value in both.inputs["x"].items()}}  # type: ignore[union-attr]
    loss = built.loss(Batch(one, {"x": torch.arange(1)}, torch.arange(1), torch.arange(1), again=one)).loss
    loss.backward()
    assert loss.isfinite()
    assert "are equal" in caplog.text
