import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

import mmalign
from mmalign.errors import UserError
from mmalign.heads.codebook import Codebook, CodebookConfig, QueryHead
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.functional import ground
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.training.optimizer import OptimizerConfig, parameter_groups
from mmalign.types import Batch, Tokens


def tokens(*lengths: int, width: int = 8, pad: int = 0) -> Tokens:
    mask = torch.arange(max(lengths) + pad) < torch.tensor(lengths)[:, None]
    return Tokens(torch.randn(*mask.shape, width).masked_fill(~mask[:, :, None], math.nan), mask)


def aligner(config: CodebookConfig | None = None) -> Aligner:
    towers = {name: TowerConfig(modality="vector", encoder="mlp", args={"width": 4, "hidden": 8}) for name in "xyz"}
    pairs = [PairConfig("x", "y", "fdt"), PairConfig("y", "z", "fdt")]
    config = config or CodebookConfig(codes=20)
    return Aligner(towers, pairs, 6, fit_transforms(towers, {name: [] for name in "xyz"}), config)


def batch(model: Aligner, rows: int = 5) -> Batch:
    draw = np.random.default_rng(0)
    samples = {name: list(draw.normal(size=(rows, 4)).astype("f4")) for name in "xyz"}
    inputs = {name: model.transforms[name].collate(samples[name]) for name in "xyz"}
    places = torch.arange(rows)
    return Batch(inputs, dict.fromkeys("xyz", places), places, places)


@pytest.mark.parametrize("codes", [256, 1024, 4096])
@pytest.mark.parametrize("length", [5, 15, 50])
@pytest.mark.parametrize("dim", [16, 128])
def test_initially_three_codes_in_ten_have_weight(codes: int, length: int, dim: int) -> None:
    """A code without weight has no gradient, so that few codes with weight would be all that is ever used."""
    book, queries = Codebook(dim, CodebookConfig(codes=codes)), QueryHead(32, dim)
    with torch.no_grad():
        weights, _ = book(queries(tokens(*[length] * 16, width=32)))
    assert 0.22 < float((weights > 0).float().mean()) < 0.4


def test_forward_is_grounding_and_the_direction_of_the_mixture() -> None:
    book, given = Codebook(8, CodebookConfig(codes=9, temperature=0.7)).double(), tokens(4, 1, 0)
    given = given.to(torch.float64)
    weights, grounded = book(given)
    assert_close(weights, ground(given.values, given.mask, book.codes, 0.7), rtol=1e-6, atol=1e-6)
    assert_close(grounded, F.normalize(weights @ book.codes, dim=1))
    assert weights.dtype == grounded.dtype == torch.float64
    assert_close(weights.sum(1), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    assert not grounded[2].any()  # a sample without a token is nowhere
    soft, _ = Codebook(8, CodebookConfig(codes=9, activation="softmax"))(tokens(4))
    assert (soft > 0).all()


def test_values_in_padding_are_ignored() -> None:
    book, queries = Codebook(8, CodebookConfig(codes=9, temperature=0.5, mode="learnt")), QueryHead(8, 8)
    narrow = tokens(3, 1, 0)
    wide = Tokens(F.pad(narrow.values, (0, 0, 0, 4), value=math.nan), F.pad(narrow.mask, (0, 4)))
    outcomes = []
    for given in (narrow, wide):
        book.zero_grad()
        queries.zero_grad()
        values = given.values.clone().requires_grad_()
        weights, grounded = book(queries(Tokens(values, given.mask)))
        (weights.square().sum() + grounded[:, 0].sum()).backward()
        assert values.grad is not None
        assert values.grad[~given.mask].abs().sum() == 0
        gradients = [p.grad.clone() for p in (*book.parameters(), *queries.parameters())]
        outcomes.append([weights.detach(), grounded.detach(), *gradients])
    assert all(value.isfinite().all() for value in outcomes[1])
    assert_close(outcomes[0], outcomes[1], rtol=1e-6, atol=1e-6)


def test_under_autocast_codes_are_mixed_in_float32() -> None:
    book = Codebook(8, CodebookConfig(codes=9, temperature=0.5))
    given = Tokens(torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool))
    with torch.autocast("cpu", torch.bfloat16):
        weights, grounded = book(given)
    assert weights.dtype == grounded.dtype == torch.float32
    assert_close([weights, grounded], list(book(given)), rtol=0, atol=0)
    small, _ = book(given.to(torch.float16))
    assert small.dtype == torch.float32


@pytest.mark.parametrize("mode", ["fixed", "learnt", "scheduled"])
def test_the_temperature_is_among_the_weights(mode: str) -> None:
    config = CodebookConfig(codes=12, temperature=0.9, mode=mode, final_temperature=0.2)  # type: ignore[arg-type]
    book, given = Codebook(8, config), tokens(4, 2)
    if mode == "scheduled":
        book.set_progress(0.6)
    elif mode == "learnt":
        with torch.no_grad():
            book.log_temperature.sub_(0.3)
    assert set(book.state_dict()) == {"codes", "log_temperature"}
    trained = book.train()(given)[0].detach()
    assert_close(book.eval()(given)[0], trained, rtol=0, atol=0)
    fresh = Codebook(8, CodebookConfig(codes=12, temperature=5.0, mode=mode))  # type: ignore[arg-type]
    fresh.load_state_dict(copy.deepcopy(book.state_dict()))
    assert_close(fresh.temperature, book.temperature, rtol=0, atol=0)
    assert_close(fresh(given)[0], trained, rtol=0, atol=0)


def test_only_a_learnt_temperature_has_a_gradient() -> None:
    for mode in ("fixed", "learnt", "scheduled"):
        book = Codebook(8, CodebookConfig(codes=12, temperature=0.9, mode=mode))  # type: ignore[arg-type]
        weights, _ = book(tokens(4, 2))
        weights.square().sum().backward()
        trained = [name for name, parameter in book.named_parameters() if parameter.requires_grad]
        assert trained == (["codes", "log_temperature"] if mode == "learnt" else ["codes"])
        assert book.codes.grad.any()
        assert (book.log_temperature.grad is not None and book.log_temperature.grad.any()) == (mode == "learnt")


def test_a_schedule_decreases_geometrically() -> None:
    book = Codebook(4, CodebookConfig(codes=10, temperature=8.0, mode="scheduled", final_temperature=0.5))
    found = []
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, -0.5):
        book.set_progress(progress)
        found.append(float(book.temperature))
    assert found == pytest.approx([8.0, 4.0, 2.0, 1.0, 0.5, 0.5, 8.0])
    tenth = Codebook(4, CodebookConfig(codes=10, mode="scheduled"))
    tenth.set_progress(1.0)
    assert float(tenth.temperature) == pytest.approx(0.08)
    fixed = Codebook(4, CodebookConfig(codes=10, temperature=8.0))
    fixed.set_progress(1.0)
    assert float(fixed.temperature) == pytest.approx(8.0)


def test_a_model_applies_the_schedule_to_its_codebook() -> None:
    model = aligner(CodebookConfig(codes=20, temperature=2.0, mode="scheduled", final_temperature=0.5))
    assert model.codebook is not None
    model.set_progress(0.5)
    assert float(model.codebook.temperature) == pytest.approx(1.0)


def test_all_towers_share_one_codebook(tmp_path: Path) -> None:
    model = aligner()
    assert model.codebook is not None
    codes = [key for key, value in model.state_dict().items() if value.shape[:1] == (20,)]
    assert codes == ["codebook.codes"]
    assert len({p.data_ptr() for p in model.parameters() if p.shape == (20, 6)}) == 1
    saved = load_file(mmalign.save(model, tmp_path) / "model.safetensors")
    assert [key for key in saved if "codebook" in key] == ["codebook.codes", "codebook.log_temperature"]
    again = mmalign.load(tmp_path)
    assert_close(again.codebook_config, model.codebook_config)
    assert_close(again.encode("x", [[1.0] * 4]).codes, model.encode("x", [[1.0] * 4]).codes, rtol=0, atol=0)


def test_codes_learn_from_every_tower() -> None:
    model = aligner()
    assert model.codebook is not None
    given, codes = batch(model), model.codebook.codes
    whole = gradient(model.loss(given).loss, codes)
    parts = []
    for learner in "xyz":
        embeddings = model(given)
        for other in set("xyz") - {learner}:
            embeddings[other] = embeddings[other].map(Tensor.detach)
        parts.append(gradient(model.objective(embeddings, given).loss, codes))
    assert all(part.abs().sum() > 0 for part in parts)
    assert_close(torch.stack(parts).sum(0), whole)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, of)
    return found


def test_codes_do_not_decay() -> None:
    model = aligner(CodebookConfig(codes=20, mode="learnt"))
    assert model.codebook is not None
    decayed, plain = parameter_groups(model, OptimizerConfig())
    for parameter in (model.codebook.codes, model.codebook.log_temperature):
        assert not any(parameter is other for other in decayed["params"])  # type: ignore[attr-defined]
        assert any(parameter is other for other in plain["params"])  # type: ignore[attr-defined]
    fixed = aligner()
    held = [p for group in parameter_groups(fixed, OptimizerConfig()) for p in group["params"]]  # type: ignore[attr-defined]
    assert fixed.codebook is not None
    assert not any(fixed.codebook.log_temperature is other for other in held)


def test_without_an_objective_that_needs_codes_there_is_no_codebook() -> None:
    towers = {name: TowerConfig(modality="vector", args={"width": 4}) for name in "xy"}
    model = Aligner(towers, [PairConfig("x", "y")], 6, fit_transforms(towers, {"x": [], "y": []}), CodebookConfig())
    assert model.codebook is None


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"codes": 0}, "codebook.codes must be at least 1, got 0"),
        ({"mode": "warm"}, "fixed, learnt or scheduled, got 'warm'"),
        ({"temperature": 0.0}, "above 0 and finite, got 0 "),
        ({"final_temperature": -1.0}, "above 0 and finite, got .* and -1"),
        ({"temperature": math.inf}, "above 0 and finite, got inf"),
        ({"activation": "relu"}, "activation must be sparsemax or softmax, got 'relu'"),
    ],
)
def test_invalid_settings_are_named(named: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Codebook(4, CodebookConfig(**named))  # type: ignore[arg-type]
