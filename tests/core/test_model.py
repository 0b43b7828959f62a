from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mmalign.errors import BadSample, UserError
from mmalign.inference import inference
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.types import Batch


def make(*pairs: tuple[str, str], names: tuple[str, ...] = ("x", "y", "z"), dim: int = 3) -> Aligner:
    towers = {name: TowerConfig(modality="vector", encoder="mlp", args={"width": 4}) for name in names}
    configs = [PairConfig(a, b, weight=1.0 + place) for place, (a, b) in enumerate(pairs)]
    return Aligner(towers, configs, dim, fit_transforms(towers, {name: [] for name in names}))


def batch_of(model: Aligner, rows: dict[str, list[int]], size: int) -> Batch:
    inputs = {
        name: model.transforms[name].collate(
            [np.random.default_rng(row).normal(size=4).astype("f4") for row in present]
        )
        for name, present in rows.items()
    }
    places = {name: torch.tensor(present) for name, present in rows.items()}
    return Batch(inputs, places, torch.arange(size), torch.arange(size))


def test_the_loss_is_the_weighted_sum_over_pairs() -> None:
    model = make(("x", "y"), ("y", "z"))
    every = list(range(5))
    output = model.loss(batch_of(model, {"x": every, "y": every, "z": every}, 5))
    assert_close(output.loss, output.terms["x_y/loss"] + 2 * output.terms["y_z/loss"])


def test_rows_without_a_tower_do_not_affect_that_pair() -> None:
    model = make(("x", "y"), ("y", "z"))
    ragged = model.loss(batch_of(model, {"x": [0, 1, 2, 4], "y": [0, 2, 3, 4], "z": [1, 3]}, 5))
    only_xy = model.loss(batch_of(model, {"x": [0, 2, 4], "y": [0, 2, 4], "z": [0]}, 5))
    assert_close(ragged.terms["x_y/loss"], only_xy.terms["x_y/loss"])
    assert ragged.loss.isfinite()


def test_a_tower_without_rows_in_the_batch() -> None:
    model = make(("x", "y"), ("y", "z"))
    batch = batch_of(model, {"x": [0, 1], "y": [0, 1]}, 2)
    batch.sample_indices["z"] = torch.zeros(0, dtype=torch.int64)
    output = model.loss(batch)
    output.loss.backward()
    assert_close(output.terms["y_z/loss"], torch.tensor(0.0))
    assert output.terms["x_y/loss"] > 0


def test_encode_takes_what_a_user_has() -> None:
    model = make(("x", "y"))
    one = np.arange(4.0)
    many = [one, one.tolist(), torch.arange(4.0)]
    encoded = model.encode("x", many, batch_size=2)
    assert encoded.vector.shape == (3, 3)
    assert_close(encoded.vector.norm(dim=1), torch.ones(3))
    assert_close(encoded.vector[0], encoded.vector[1])
    assert_close(model.encode("x", one).vector, encoded.vector[:1])
    assert len(model.encode("x", [])) == 0
    assert_close(model.encode("x", iter(many)).vector, encoded.vector)


def test_encode_names_the_bad_item() -> None:
    with pytest.raises(BadSample, match="x item 5 .*expected.*got"):
        make(("x", "y")).encode("x", [[1.0] * 4] * 5 + [[float("nan")] * 4], batch_size=2)


def test_encode_names_an_item_that_the_transform_refuses() -> None:
    with pytest.raises(BadSample, match="x item 3 .*expected vectors of 4 numbers, got 2"):
        make(("x", "y")).encode("x", [[1.0] * 4] * 3 + [[1.0, 2.0]], batch_size=2)


def test_one_item_and_several_items_are_distinguished(tmp_path: Path) -> None:
    model = make(("x", "y"))
    np.save(tmp_path / "row.npy", np.arange(4.0))
    path, raw = str(tmp_path / "row.npy"), (tmp_path / "row.npy").read_bytes()
    expected = model.encode("x", [np.arange(4.0)]).vector
    for one in (path, tmp_path / "row.npy", raw, bytearray(raw), memoryview(raw), np.array([path])):
        assert_close(model.encode("x", one).vector, expected)
    column = np.array([path, path, path], dtype=object)  # as a table's column gives them
    assert_close(model.encode("x", column).vector, expected.expand(3, -1))


def test_encode_leaves_the_model_as_it_was() -> None:
    model = make(("x", "y"))
    model.train()
    model.encoders["x"].eval()
    model.encode("x", [[1.0] * 4])
    assert model.training
    assert model.encoders["y"].training
    assert not model.encoders["x"].training
    with pytest.raises(RuntimeError, match="stop"), inference(model):
        raise RuntimeError("stop")
    assert model.training


def test_scores_depend_on_the_direction() -> None:
    model = make(("x", "y"))
    a, b = model.encode("x", list(np.eye(4))), model.encode("y", list(np.eye(4)[:2]))
    assert model.similarity(a, b).shape == (4, 2)
    assert_close(model.similarity(b, a), model.similarity(a, b).T)
    with pytest.raises(UserError, match="no objective joins 'x' and 'z'; this model was trained on: x-y"):
        model.similarity(a, model.encode("z", list(np.eye(4))))


def test_towers_that_were_never_paired_share_the_space_of_a_third() -> None:
    model = make(("x", "y"), ("z", "y"))
    a, b = model.encode("x", list(np.eye(4))), model.encode("z", list(np.eye(4)[:2]))
    assert model.emergent_path("x", "z") == ["x", "y", "z"]
    assert model.emergent_path("x", "y") is None
    assert_close(model.similarity(a, b), a.vector @ b.vector.T)
    assert_close(model.similarity_pairwise(a[:2], b), (a.vector[:2] * b.vector).sum(1))
    assert model.scores_vectors_only("x", "z")
    assert model.logit_scale("x", "z") == (model.logit_scale("x", "y") + model.logit_scale("z", "y")) / 2
    assert_close(model.similarity(a, a), a.vector @ a.vector.T)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(("x", "why")), "a pair names the tower 'why'.*known: x, y, z"),
        (lambda: make(), "at least one pair"),
        (lambda: make(("x", "y")).encode("w", []), "no tower called 'w'"),
    ],
)
def test_invalid_settings_are_named(call: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()  # type: ignore[operator]


def test_unknown_encoder_and_argument() -> None:
    towers = {name: TowerConfig(modality="vector", args={"width": 4}) for name in ("x", "y")}
    transforms = fit_transforms(towers, {"x": [], "y": []})
    with pytest.raises(UserError, match="objective 'clip'.*argument 'temprature'"):
        Aligner(towers, [PairConfig("x", "y", args={"temprature": 1})], 2, transforms)
    towers["x"] = TowerConfig(modality="vector", encoder="mpl")
    with pytest.raises(UserError, match="no encoder 'mpl'; did you mean 'mlp'"):
        Aligner(towers, [PairConfig("x", "y")], 2, transforms)
