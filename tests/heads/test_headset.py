import itertools
import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.heads import Codebook, CodebookConfig, GaussianConfig, HeadSet
from mmalign.modality import Encoder
from mmalign.types import Embedding, Features, Tokens

DIM, CODES = 4, 7
FIELDS = ["vector", "log_variance", "tokens", "parts", "codes"]
OWN = {  # which parameters a need brings
    "vector": {"vector.layers.weight"},
    "log_variance": {"log_variance.after.weight", "log_variance.bias"},
    "tokens": {"tokens.project.layers.weight"},
    "parts": {"parts.project.layers.weight"},
    "codes": {f"queries.layers.{place}.{kind}" for place in (0, 1, 3, 4) for kind in ("weight", "bias")},
}
NEEDS = [
    set(some)
    for count in range(1, 6)
    for some in itertools.combinations(FIELDS, count)
    if set(some) != {"log_variance"}
]


class Sets(Encoder):
    def __init__(self, width: int = 6, token_width: int | None = 5, part_width: int | None = 3) -> None:
        super().__init__(width, token_width, part_width)


def heads(needs: set[str], encoder: Encoder | None = None, kind: str = "linear") -> HeadSet:
    return HeadSet(encoder or Sets(), DIM, needs, kind, GaussianConfig("mean"))


def level(rows: int, width: int, length: int) -> Tokens:
    mask = torch.arange(length) < torch.randint(0, length + 1, (rows, 1))
    return Tokens(torch.randn(rows, length, width).masked_fill(~mask[:, :, None], math.nan), mask)


def features(rows: int = 3) -> Features:
    return Features(torch.randn(rows, 6), level(rows, 5, 4), level(rows, 3, 2))


def book() -> Codebook:
    return Codebook(DIM, CodebookConfig(codes=CODES, temperature=0.5))


def described(embedding: Embedding) -> dict[str, object]:
    """Which fields are there, of which types and trailing shapes."""

    def one(value: object) -> object:
        if isinstance(value, Tokens):
            return value.values.dtype, value.values.shape[2:], value.mask.dtype
        return (value.dtype, value.shape[1:]) if isinstance(value, torch.Tensor) else value

    return {name: one(value) for name, value in vars(embedding).items()}


@pytest.mark.parametrize("needs", NEEDS, ids=lambda needs: "-".join(sorted(needs)))
def test_only_what_is_needed_is_built_and_made(needs: set[str]) -> None:
    made = heads(needs)
    assert {name for name, _ in made.named_parameters()} == set().union(*(OWN[need] for need in needs))
    found = made(features(), "side", book())
    there = {name for name, value in vars(found).items() if value is not None} - {"tower"}
    assert there == needs | {"vector"} | ({"grounded"} if "codes" in needs else set())
    assert found.tower == "side"
    assert found.vector.shape == (3, DIM)
    assert found.vector.isfinite().all()


@pytest.mark.parametrize("needs", NEEDS, ids=lambda needs: "-".join(sorted(needs)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_an_empty_batch_has_all_fields(needs: set[str], dtype: torch.dtype) -> None:
    """Processes gather what they have: one without rows must bring the same tensors as the others."""
    made, codes, given = heads(needs).to(dtype), book().to(dtype), features()
    given = Features(given.vector.to(dtype), given.tokens.to(dtype), given.parts.to(dtype))
    rows, none = made(given, "side", codes), made.empty(torch.device("cpu"), "side", codes)
    assert len(none) == 0
    assert described(none) == described(rows)
    joined = Embedding.cat([none, rows])
    assert_close(joined.vector, rows.vector)
    for name in ("tokens", "parts"):
        assert getattr(rows, name) is None or torch.equal(getattr(joined, name).mask, getattr(rows, name).mask)


def test_no_rows_of_a_bag_have_a_log_variance_too() -> None:
    made = HeadSet(Sets(5, 5), DIM, {"vector", "log_variance"}, gaussian=GaussianConfig("bag"))
    rows = made(Features(torch.randn(3, 5), level(3, 5, 4)))
    assert described(made.empty(torch.device("cpu"), "", None)) == described(rows)


def test_an_encoder_without_vector_uses_its_tokens() -> None:
    given, codes = features(), book()
    for name in ("tokens", "parts"):
        made = heads({name})(given)
        set_of = getattr(made, name)
        wanted = [F.normalize(row[mask].sum(0), dim=0) for row, mask in zip(set_of.values, set_of.mask, strict=True)]
        assert_close(made.vector, torch.stack(wanted))
    made = heads({"codes", "tokens"})(given, "", codes)
    assert_close(made.vector, made.grounded)
    both = heads({"tokens", "parts"})
    assert_close(both(given).vector, F.normalize(both(given).tokens.values.sum(1), dim=1))


def test_gradients_reach_every_head_whatever_the_pads_hold() -> None:
    made, codes, given = heads(set(FIELDS)), book(), features(8)
    found = made(given, "", codes)
    losses = [found.vector[:, 0], found.log_variance[:, 0], found.tokens.values[:, 0, 0], found.parts.values[:, 0, 0]]
    torch.stack([*losses, found.codes.square().sum(1), found.grounded[:, 0]]).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or name == "queries.layers.1.bias", name


def test_an_encoder_without_tokens_uses_its_vector_as_token() -> None:
    needs = {"vector", "log_variance", "tokens", "codes"}
    made, codes, vector = heads(needs, Sets(6, None, None)), book(), torch.randn(3, 6)
    lone = Tokens(vector[:, None], torch.ones(3, 1, dtype=torch.bool))
    found, same = made(Features(vector), "", codes), made(Features(vector, lone), "", codes)
    for name in (*needs - {"tokens"}, "grounded"):
        assert_close(getattr(found, name), getattr(same, name))
    assert_close(found.tokens.values, same.tokens.values)
    assert found.tokens.mask.shape == (3, 1)


def test_tokens_and_parts_have_weights_of_their_own_width() -> None:
    sizes = {name: tuple(parameter.shape) for name, parameter in heads(set(FIELDS)).named_parameters()}
    assert sizes["vector.layers.weight"] == (DIM, 6)
    assert sizes["log_variance.after.weight"] == sizes["tokens.project.layers.weight"] == (DIM, 5)
    assert sizes["parts.project.layers.weight"] == (DIM, 3)


@pytest.mark.parametrize(
    ("needs", "encoder", "message"),
    [
        ({"vector", "colour"}, Sets(), r"no head returns \['colour'\]; objectives may need: vector, log_variance"),
        ({"parts"}, Sets(part_width=None), "encoder Sets does not return"),
        (set(), Sets(), "needs a vector, tokens, parts or codes, got no needs"),
        ({"log_variance"}, Sets(), "needs a vector, tokens, parts or codes, got .*log_variance"),
    ],
)
def test_impossible_needs_are_named(needs: set[str], encoder: Encoder, message: str) -> None:
    with pytest.raises(UserError, match=message):
        heads(needs, encoder)


def test_missing_encoder_outputs_are_named() -> None:
    with pytest.raises(UserError, match="needs parts, and the encoder returned none"):
        heads({"parts"})(Features(torch.randn(2, 6), level(2, 5, 3)))
    for need in ("tokens", "codes"):
        with pytest.raises(UserError, match="needs tokens, and the encoder \\(with a token_width\\) returned none"):
            heads({need})(Features(torch.randn(2, 6)), "", book())
    assert heads({"vector"})(Features(torch.randn(2, 6))).tokens is None
    with pytest.raises(UserError, match="expected the model's codebook"):
        heads({"codes"})(features())
