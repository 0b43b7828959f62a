"""Bags of vectors: reading, padding, and a teacher that is one."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from mmalign.bundles import bundle
from mmalign.errors import BadSample, UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.types import Batch
from modalities.vector import BAG

ROWS = np.array([[1.0, 2.0, 2.0], [2.0, 0.0, 0.0], [0.0, 3.0, 4.0]], dtype=np.float32)


def test_every_accepted_type_of_bag(tmp_path: Path) -> None:
    np.save(tmp_path / "bag.npy", ROWS.astype(np.float64))
    stream = io.BytesIO()
    np.save(stream, ROWS)
    for source in (ROWS, ROWS.tolist(), torch.from_numpy(ROWS), tmp_path / "bag.npy", stream.getvalue()):
        np.testing.assert_array_equal(BAG.read(source), ROWS)
    assert BAG.read([1.0, 2.0]).shape == (1, 2)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([[1.0], [1.0, 2.0]], "unequal length"),
        ([[1.0, float("nan")]], "nan"),
        ([], "shape"),
        (np.zeros((2, 2, 2)), "shape"),
        ("nowhere.npy", "no such file"),
        (b"no array", "without pickle"),
        (3, "rows of numbers"),
    ],
)
def test_invalid_bags_are_rejected(source: object, said: str) -> None:
    with pytest.raises(BadSample, match=said):
        BAG.read(source)


def test_too_many_members_are_thinned_evenly_and_in_training_at_random() -> None:
    transform = BAG.transform("members", {"width": 1}, most=3)
    long = np.arange(9, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(transform.item(long)[:, 0], [0, 4, 8])
    drawn = {tuple(transform.item(long, np.random.default_rng(seed))[:, 0]) for seed in range(9)}
    assert len(drawn) > 3
    assert all(len(one) == 3 and tuple(sorted(one)) == one for one in drawn)
    with pytest.raises(BadSample, match="vectors of 1"):
        transform.item(ROWS)
    with pytest.raises(UserError, match="mots"):
        BAG.transform("members", {}, mots=3)


def test_mean_of_a_bag_ignores_padding() -> None:
    transform = BAG.transform("members", {"width": 3})
    encoder = BAG.encoder("members", transform)
    inputs = transform.collate([ROWS, ROWS[:1]])
    inputs["values"][1, 1:] = torch.nan
    torch.testing.assert_close(encoder(inputs).vector, torch.from_numpy(np.stack([ROWS.mean(0), ROWS[0]])))


def test_a_student_approaches_the_gaussian_of_a_frozen_teacher(tmp_path: Path) -> None:
    """The teacher's variance is the spread of its members on the sphere; each tower has its own kind of uncertainty."""
    towers = {
        "student": TowerConfig(modality="vector", encoder="mlp", args={"width": 4, "hidden": 32}, uncertainty="mean"),
        "teacher": TowerConfig(modality="bag", args={"width": 3}, head="identity", freeze=True, uncertainty="bag"),
    }
    pairs = [PairConfig("student", "teacher", "distillation", {"match": "gaussian"})]
    torch.manual_seed(0)
    model = Aligner(towers, pairs, 3, fit_transforms(towers, {name: [] for name in towers}))
    model.freeze(0)
    assert [name for name, _ in model.heads["teacher"].named_parameters()] == []
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(8, 4)).astype(np.float32)
    bags = [(rng.normal(size=3) + rng.normal(size=(5, 3)) * 0.3).astype(np.float32) for _ in range(8)]
    inputs = {
        "student": model.transforms["student"].collate(list(seen)),
        "teacher": BAG.transform("", {"width": 3}).collate(bags),
    }
    rows = torch.arange(8)
    batch = Batch(inputs, {"student": rows, "teacher": rows}, rows, rows)
    unit = [bag / np.linalg.norm(bag, axis=1, keepdims=True) for bag in bags]
    spread = torch.from_numpy(np.stack([np.log(one.var(0, ddof=1)) for one in unit]))
    torch.testing.assert_close(model(batch)["teacher"].log_variance, spread, atol=1e-4, rtol=1e-4)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    first = model.loss(batch).loss.detach()
    for _ in range(500):
        optimizer.zero_grad()
        loss = model.loss(batch).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * first
    again = bundle.load(bundle.save(model, tmp_path / "bundle"))
    assert again.towers["teacher"].uncertainty == "bag"
    torch.testing.assert_close(again.eval()(batch)["teacher"].log_variance, spread, atol=1e-4, rtol=1e-4)
