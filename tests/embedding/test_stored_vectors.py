"""Vectors at reduced precision: bytes, decoded values and their errors."""

import pytest
import torch
from torch.testing import assert_close

from mmalign.embedding.stored_vectors import PRECISIONS, StoredVectors
from mmalign.errors import UserError


@pytest.mark.parametrize(
    ("precision", "nbytes"), [("float32", 40 * 12 * 4), ("float16", 960), ("int8", 480), ("binary", 80)]
)
def test_bytes_of_each_precision(precision: str, nbytes: int) -> None:
    stored = StoredVectors.of(torch.randn(40, 12), precision)
    assert (len(stored), stored.dim, stored.nbytes) == (40, 12, nbytes)
    assert stored.decode().dtype == torch.float32
    assert stored.is_finite()


def test_decoded_values_by_hand() -> None:
    vectors = torch.tensor([[0.0, 4.0], [2.0, 4.0], [4.0, -4.0]])
    assert StoredVectors.of(vectors).decode() is not vectors
    assert_close(StoredVectors.of(vectors).decode(), vectors, rtol=0, atol=0)
    assert_close(StoredVectors.of(vectors, "float16").decode(), vectors, rtol=0, atol=0)
    eight = StoredVectors.of(vectors, "int8")
    assert eight.codes.tolist() == [[-127, 127], [0, 127], [127, -127]]
    assert_close(eight.decode(), vectors, rtol=0, atol=1e-6)
    # Means 2 and 4/3; mean absolute deviations 4/3 and (8/3 + 8/3 + 16/3) / 3 = 32/9. A value at the mean is "below".
    signs = torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
    expected = torch.tensor([2.0, 4 / 3]) + torch.tensor([4 / 3, 32 / 9]) * signs
    assert_close(StoredVectors.of(vectors, "binary").decode(), expected)


def test_the_error_of_int8_is_at_most_half_a_step() -> None:
    vectors = torch.randn(200, 9)
    step = (vectors.amax(0) - vectors.amin(0)) / 254
    error = (StoredVectors.of(vectors, "int8").decode() - vectors).abs()
    assert bool((error <= 0.5 * step * (1 + 1e-3)).all())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [1, 8, 13])
def test_rows_and_slices_are_those_of_the_whole(precision: str, dim: int) -> None:
    stored = StoredVectors.of(torch.randn(7, dim), precision)
    whole = stored.decode()
    assert_close(stored.decode(slice(2, 5)), whole[2:5], rtol=0, atol=0)
    assert_close(stored.decode(torch.tensor([6, 0])), whole[[6, 0]], rtol=0, atol=0)
    assert stored.at(precision) is stored
    assert StoredVectors.of(torch.empty(0, dim), precision).decode().shape == (0, dim)


def test_a_constant_coordinate_keeps_its_value() -> None:
    vectors = torch.tensor([[0.5, 1.0], [0.5, 2.0]])
    for precision in PRECISIONS:
        assert_close(StoredVectors.of(vectors, precision).decode()[:, 0], torch.tensor([0.5, 0.5]))


def test_invalid_precision_and_out_of_range_values_are_errors() -> None:
    with pytest.raises(UserError, match="precision: expected float32, float16, int8 or binary, got 'int4'"):
        StoredVectors.of(torch.eye(2), "int4")
    with pytest.raises(UserError, match="within the range of float16"):
        StoredVectors.of(torch.tensor([[70000.0]]), "float16")
    assert not StoredVectors(torch.tensor([[float("nan")]]), 1).is_finite()


def test_codes_that_decode_to_infinity_are_seen() -> None:
    """Center and step are finite, their sum is not."""
    largest = torch.tensor([3e38])
    for precision, codes in (("int8", torch.zeros(1, 1, dtype=torch.int8)), ("binary", torch.zeros(1, 1).byte())):
        assert not StoredVectors(codes, 1, precision, largest, largest).is_finite()
        assert StoredVectors(codes, 1, precision, largest / 256, -largest / 256).is_finite()
