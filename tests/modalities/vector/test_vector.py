"""Vectors: reading rows, holding the width, encoding."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign.errors import BadSample, UserError
from modalities.vector import MODALITY

ROW = np.array([1.0, -2.5, 3.25], dtype=np.float32)


def npy(values: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def test_every_accepted_type_of_row(tmp_path: Path) -> None:
    np.save(tmp_path / "row.npy", ROW)
    np.save(tmp_path / "one.npy", ROW[None].astype(np.float64))
    for source in (
        ROW, ROW.tolist(), tuple(ROW.tolist()), torch.from_numpy(ROW), torch.from_numpy(ROW).to(torch.bfloat16),
        ROW.astype(np.float16), tmp_path / "row.npy", str(tmp_path / "row.npy"), tmp_path / "one.npy",
        npy(ROW), bytearray(npy(ROW)),
    ):  # fmt: skip
        found = MODALITY.read(source)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, ROW)
    np.testing.assert_array_equal(MODALITY.read([1, 2]), np.array([1, 2], dtype=np.float32))


def test_rows_of_a_matrix(tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "m.npy", matrix)
    np.save(tmp_path / "v.npy", ROW)
    for row in range(4):
        np.testing.assert_array_equal(MODALITY.read(tmp_path / f"m.npy#{row}"), matrix[row])
    with pytest.raises(BadSample, match=r"m\.npy#4: expected a row in 0\.\.3"):
        MODALITY.read(tmp_path / "m.npy#4")
    with pytest.raises(BadSample, match="expected a matrix"):
        MODALITY.read(tmp_path / "v.npy#0")
    for wrong in ("m.npy#-1", "m.npy#x", "none.npy#0"):
        with pytest.raises(BadSample, match="no such file"):
            MODALITY.read(tmp_path / wrong)
    with pytest.raises(BadSample, match="a folder"):
        MODALITY.read(tmp_path)
    np.save(tmp_path / "odd#7", ROW)
    (tmp_path / "odd#7.npy").rename(tmp_path / "odd#7")
    np.testing.assert_array_equal(MODALITY.read(tmp_path / "odd#7"), ROW)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([1.0, float("nan")], "nan at place 1"),
        ([float("inf"), 1.0], "inf at place 0"),
        ([1e300, 1.0], "1e[+]300 at place 0"),
        ([], "shape"),
        ([[1.0, 2.0], [3.0, 4.0]], "shape"),
        ([[1.0], [2.0, 3.0]], "unequal length"),
        (["a", "b"], "values"),
        ([None, 1.0], "object values"),
        (np.array([True, False]), "bool values"),
        (np.array([1 + 2j]), "complex"),
        (np.float32(3.0), "float32"),
        (b"", "an empty file"),
        (b"not numpy at all", "without pickle, got a file of another kind"),
        (npy(ROW)[:-4], "12 bytes of values, as its header states, got 8 bytes"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), "without pickle, got one of Python objects"),
    ],
)
def test_invalid_vectors_are_rejected(source: object, message: str) -> None:
    with pytest.raises(BadSample, match=message):
        MODALITY.read(source)


def test_an_oversized_header_is_rejected() -> None:
    """Nothing is reserved for numbers that are not in the file."""
    header = npy(ROW)
    lie = header.replace(b"(3,)", b"(9999999999999,)")
    lie = lie[:8] + (len(lie) - 10 - ROW.nbytes).to_bytes(2, "little") + lie[10:]
    with pytest.raises(BadSample, match="as its header states"):
        MODALITY.read(lie)


def test_pickle_is_never_read(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "ran"), "w")

    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Bomb()))
    with (tmp_path / "object.npy").open("wb") as stream:
        np.save(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
    for name in ("raw.npy", "object.npy"):
        for source in (tmp_path / name, (tmp_path / name).read_bytes()):
            with pytest.raises(BadSample):
                MODALITY.read(source)
    np.savez(tmp_path / "archive.npz", a=ROW)
    with pytest.raises(BadSample, match="an NPZ archive of several"):
        MODALITY.read(tmp_path / "archive.npz")
    assert not (tmp_path / "ran").exists()


def test_width_is_learnt_or_given_and_held() -> None:
    transform = MODALITY.transform("", {})
    with pytest.raises(UserError, match="not known yet"):
        transform.item(ROW)
    transform.fit([ROW, ROW])
    assert transform.width == 3
    with pytest.raises(BadSample, match="expected vectors of 3 numbers, got 4"):
        transform.item(np.zeros(4, dtype=np.float32))
    given = MODALITY.transform("identity", {"width": 3})
    given.fit([])
    assert MODALITY.encoder("identity", given, width=3).width == 3
    with pytest.raises(UserError, match="training vector 1 has 4, expected 3"):
        given.fit([ROW, np.zeros(4, dtype=np.float32)])
    with pytest.raises(UserError, match="width 5, the data has 3"):
        MODALITY.encoder("mlp", given, width=5)
    with pytest.raises(UserError, match="no vectors to learn the width from"):
        MODALITY.transform("", {}).fit([])
    for settings, args in (({"noise": -1}, {}), ({"nois": 1}, {}), ({}, {"width": 0}), ({}, {"width": "4"})):
        with pytest.raises(UserError, match="vector"):
            MODALITY.transform("", args, **settings)


def test_identity_gives_the_numbers_back() -> None:
    transform = MODALITY.transform("", {"width": 3})
    encoder = MODALITY.encoder("", transform)
    inputs = transform.collate([transform.item(ROW), transform.item(2 * ROW)])
    torch.testing.assert_close(encoder(inputs).vector, torch.from_numpy(np.stack([ROW, 2 * ROW])))
    assert not list(encoder.parameters())


def test_noise_is_for_training_only() -> None:
    transform = MODALITY.transform("", {"width": 1000}, noise=0.5)
    sample = np.ones(1000, dtype=np.float32)
    np.testing.assert_array_equal(transform.item(sample), sample)
    noisy = transform.item(sample, np.random.default_rng(0))
    assert abs((noisy - sample).std() - 0.5) < 0.05
    assert noisy.dtype == np.float32
    np.testing.assert_array_equal(sample, 1)
    again = MODALITY.restore_transform(json.loads(json.dumps(transform.config())))
    np.testing.assert_array_equal(again(sample, np.random.default_rng(0)), noisy)
