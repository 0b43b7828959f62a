"""Dropped files: names, sizes, several files of a record, and no path in a message."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mmalign
from mmalign.errors import BadSample, UserError
from mmalign.exploring.limits import Limits, Worker
from mmalign.exploring.queries import Dropped, dropped_sample, typed_sample
from mmalign.modality import Modality

LIMITS = Limits(upload_mb=1)


def modality(name: str) -> Modality:
    return mmalign.modality_of(name, mmalign.TowerConfig())


def drop(folder: Path, name: str, data: bytes) -> Dropped:
    path = folder / f"upload{len(list(folder.iterdir()))}"
    path.write_bytes(data)
    return Dropped(path, name)


def test_a_file_is_read_by_its_own_name(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(8, dtype=np.float32))
    sample = dropped_sample(modality("vector"), [drop(tmp_path, "../../a.npy", stream.getvalue())], LIMITS)
    assert sample.tolist() == list(range(8))


def test_a_text_file_is_a_typed_text(tmp_path: Path) -> None:
    assert dropped_sample(modality("text"), [drop(tmp_path, "a.txt", b"two cats\n")], LIMITS) == "two cats"
    with pytest.raises(BadSample, match="a text in UTF-8"):
        dropped_sample(modality("text"), [drop(tmp_path, "a.txt", b"\xff\xfe\x00")], LIMITS)


@pytest.mark.parametrize("name", ["a.sdf", " A.MOL "])
def test_a_typed_name_of_a_file_is_refused_where_strings_are_samples(name: str) -> None:
    pytest.importorskip("rdkit")
    with pytest.raises(BadSample, match="the name of a file"):
        typed_sample(modality("molecule"), name, LIMITS)


def test_files_beyond_a_limit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSample, match=r"a\.npy: expected at most 1 MB .*got 1\.1 MB"):
        dropped_sample(modality("vector"), [drop(tmp_path, "a.npy", bytes(1_100_000))], LIMITS)
    many = [drop(tmp_path, f"{k}.npy", b"") for k in range(9)]
    with pytest.raises(BadSample, match="1 to 8 files"):
        dropped_sample(modality("vector"), many, LIMITS)


def test_several_files_of_no_record_are_refused(tmp_path: Path) -> None:
    two = [drop(tmp_path, name, b"x") for name in ("a.npy", "b.npy")]
    with pytest.raises(BadSample, match="expected one file, got 2 files"):
        dropped_sample(modality("vector"), two, LIMITS)


def test_the_files_of_a_record_are_read_together(tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    header = b"r 2 100 500\nr.dat 16 1000/mV 16 0 0 0 0 I\nr.dat 16 1000/mV 16 0 0 0 0 II\n"
    signal = (1000 * np.sin(np.arange(1000) / 9)).astype("<i2").tobytes()
    files = [drop(tmp_path, "r.dat", signal), drop(tmp_path, "r.hea", header)]
    assert dropped_sample(modality("ecg"), files, LIMITS).signal.shape[1] == 500
    outside = header.replace(b"r.dat", b"/etc/hostname")
    with pytest.raises(BadSample):
        dropped_sample(modality("ecg"), [drop(tmp_path, "r.hea", outside)], LIMITS)


def test_a_renamed_archive_is_refused_without_a_path(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("edge_index.npy", bytes(10**8))
    for name, kind in (("a.png", "image"), ("a.npz", "pointcloud")):
        with pytest.raises(BadSample) as error:
            dropped_sample(modality(kind), [drop(tmp_path, name, stream.getvalue())], LIMITS)
        assert name in str(error.value)
        assert "mmalign-query-" not in str(error.value)


def test_work_beyond_the_time_limit_is_abandoned_and_the_next_runs() -> None:
    import threading

    release, worker = threading.Event(), Worker(0.05)
    with pytest.raises(UserError, match=r"no answer within 0\.05 s"):
        worker.run(release.wait)
    with pytest.raises(UserError, match="busy"):
        worker.run(lambda: 1)
    release.set()
    later = Worker(5)
    later._lock = worker._lock
    assert later.run(lambda: 2) == 2
    with pytest.raises(ZeroDivisionError):
        later.run(lambda: 1 / 0)


def test_limits_are_positive() -> None:
    with pytest.raises(UserError, match="seconds: expected more than 0"):
        Limits(seconds=0)
