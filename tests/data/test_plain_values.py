"""Samples as bytes: what comes back equals what went in, and nothing else is accepted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mmalign.data.plain_values import from_bytes, to_bytes


@dataclass(frozen=True)
class Cloud:
    points: np.ndarray
    up: str = ""
    inner: "Cloud | None" = None


@dataclass(frozen=True)
class Stranger:
    x: int = 0


VALUES: dict[str, Any] = {
    "none": None,
    "numbers": [True, -3, 2.5, float("inf"), "µV \ud83d"],
    "bytes": b"\x00\xff",
    "containers": {"a": (1, [2, {"b": ()}])},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_plain_values(value: Any) -> None:
    data = to_bytes(value)
    assert data is not None
    assert from_bytes(data) == value


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["a", "bc"]),
        np.array(7, dtype=">i2"),
        np.arange(12)[::-2],
    ],
)
def test_arrays_round_trip_with_dtype_and_shape(array: np.ndarray) -> None:
    back = from_bytes(to_bytes({"x": array}) or b"")["x"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable  # torch warns of arrays that are not


def test_scalars_of_numpy_keep_their_type() -> None:
    back = from_bytes(to_bytes(np.float32(2.5)) or b"")
    assert back == 2.5
    assert type(back) is np.float32


def test_dataclasses_that_are_named() -> None:
    cloud = Cloud(np.eye(3), "z", Cloud(np.ones(2)))
    back = from_bytes(to_bytes(cloud, [Cloud]) or b"", [Cloud])
    assert back.up == "z"
    np.testing.assert_array_equal(back.inner.points, np.ones(2))


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, {1, 2}, np.array([{}], dtype=object), np.zeros(1, dtype=[("x", "f4")]), Stranger(), lambda: 0],
)
def test_unsupported_values_are_not_encoded(value: Any) -> None:
    assert to_bytes(value, [Cloud]) is None


def test_a_structure_that_is_too_deep_is_not_encoded() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert to_bytes(deep) is None


def test_a_class_that_is_not_named_is_refused() -> None:
    data = to_bytes(Stranger(), [Stranger])
    assert data is not None
    with pytest.raises(ValueError, match="unknown kind"):
        from_bytes(data, [Cloud])


@pytest.mark.parametrize("index", [0, 20, 30, -1])
def test_a_changed_byte_is_detected(index: int) -> None:
    data = bytearray(to_bytes({"x": np.arange(4)}) or b"")
    data[index] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        from_bytes(bytes(data))


def test_truncated_bytes() -> None:
    data = to_bytes(np.arange(4)) or b""
    for length in (0, 5, len(data) - 1):
        with pytest.raises(ValueError, match="checksum"):
            from_bytes(data[:length])
