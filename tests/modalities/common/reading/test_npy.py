"""NPY and NPZ: NumPy's own values, no pickle, and a header that is believed only as far as the bytes go."""

import io
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmalign.errors import BadSample
from modalities.common.reading.npy import archive_arrays, array_from, mapped_array, read_header


def saved(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def with_header(text: str, values: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    header = text.encode("latin-1")
    return b"\x93NUMPY" + version + len(header).to_bytes(2 if version[0] == 1 else 4, "little") + header + values


ARRAYS = {
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "big-endian": np.arange(6, dtype=">f4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "text": np.array(["mV", "µV"]),
    "bytes": np.array([b"ab", b"c"]),
    "half": np.arange(3, dtype=np.float16),
    "date": np.array(["2026-01-02"], dtype="datetime64[D]"),
    "many-axes": np.zeros((1,) * 16, np.uint8),
}


@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_arrays_equal_those_of_numpy(values: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(saved(values))
    for read in (array_from(saved(values), "a.npy"), mapped_array(tmp_path / "a.npy", "a.npy")):
        assert read.dtype == values.dtype
        assert read.shape == values.shape
        np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_of_the_format(version: tuple[int, int]) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(4), version=version)
    np.testing.assert_array_equal(array_from(stream.getvalue(), "a.npy"), np.arange(4))


def test_headers_of_other_programs() -> None:
    text = "{'shape': (2L,), 'fortran_order': False, 'descr': '<i2'}\n"
    np.testing.assert_array_equal(array_from(with_header(text, b"\x01\x00\x02\x00"), "a.npy"), [1, 2])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04 something else", "an NPZ archive of several"),
        (saved(np.array([{"a": 1}], dtype=object)), "Python objects"),
        (saved(np.zeros(2, dtype=[("x", "f4"), ("y", "f4")])), "records"),
        (saved(np.zeros(100))[:-8], "800 bytes of values"),
        (saved(np.zeros(100))[:40], "damaged header"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,)}"), "as its header states"),
        (with_header("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", b"1234"), "damaged header"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "damaged header"),
        (with_header("{'descr': '<f8', 'shape': (1,)}"), "damaged header"),
        (with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({'1,' * 40})}}", b"1"), "40 axes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "damaged header"),
        (b"\x93NUMPY\x09\x00" + bytes(20), "another kind"),
    ],
)
def test_invalid_arguments_are_errors(data: bytes, words: str) -> None:
    with pytest.raises(BadSample, match="bad.npy") as caught:
        array_from(data, "bad.npy")
    assert words in str(caught.value)


def test_stated_size_beyond_64_bits_is_rejected() -> None:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**32}, {2**32})}}"
    with pytest.raises(BadSample, match=str(2**67)):
        array_from(with_header(text, bytes(64)), "bad.npy")


def test_an_archive_gives_the_asked_arrays() -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, frames=np.arange(5), rate=30, other=np.zeros(3))
    found = archive_arrays(stream.getvalue(), ["frames", "rate", "labels"], "clip.npz", most=1 << 10)
    assert list(found) == ["frames", "rate"]
    assert found["rate"] == 30


def test_an_archive_that_unpacks_to_too_much() -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, frames=np.zeros(1 << 20))
    with pytest.raises(BadSample, match="at most 1024 bytes in the array 'frames', got 8388736 bytes"):
        archive_arrays(stream.getvalue(), ["frames"], "bomb.npz", most=1 << 10)


def test_damaged_archives() -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, frames=np.random.default_rng(0).normal(size=400))
    data = bytearray(stream.getvalue())
    data[200] ^= 0xFF
    for damaged in (bytes(data), bytes(data[:100]), b"PK\x03\x04"):
        with pytest.raises(BadSample, match="clip.npz"):
            archive_arrays(damaged, ["frames"], "clip.npz", most=1 << 20)


def test_an_archive_of_an_entry_that_is_no_array() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("frames.npy", "hello")
    with pytest.raises(BadSample, match="clip.npz"):
        archive_arrays(stream.getvalue(), ["frames"], "clip.npz", most=1 << 20)


def test_many_threads_read_every_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's parser, which NumPy uses, fails at random here (CPython issue 106905)."""
    data, errors = saved(np.arange(4)), []

    def read() -> None:
        try:
            for _ in range(300):
                read_header(data, len(data), "a.npy")
        except BaseException as error:
            errors.append(error)

    monkeypatch.setattr("ast.parse", lambda *_, **__: pytest.fail("Python's parser was called"))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
