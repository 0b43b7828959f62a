"""The cache on disk: several threads and processes, damaged files, folders that cannot be written."""

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmalign.data.caching.disk_cache import FILE, DiskCache
from mmalign.errors import UserError


def test_values_stay(tmp_path: Path) -> None:
    DiskCache(tmp_path / "new" / "folder").put("a", b"1")
    cache = DiskCache(tmp_path / "new" / "folder")
    assert (cache.get("a"), cache.has("a"), cache.get("b"), cache.has("b")) == (b"1", True, None, False)
    cache.put("a", b"2")
    assert cache.get("a") == b"2"
    cache.remove("a")
    assert not cache.has("a")


def test_threads(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: cache.put(str(index), str(index).encode() * 100), range(200)))
        assert list(pool.map(lambda index: cache.get(str(index)), range(200))) == [
            str(index).encode() * 100 for index in range(200)
        ]


def _write(cache: DiskCache, first: int) -> None:
    for index in range(first, first + 50):
        cache.put(str(index), bytes(1000))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(tmp_path: Path, method: str) -> None:
    cache = DiskCache(tmp_path)
    cache.put("own", b"1")
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=_write, args=(cache, first)) for first in (0, 25)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert all(cache.has(str(index)) for index in range(75))
    assert cache.get("own") == b"1"


def test_cache_survives_pickling(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.put("a", b"1")
    assert pickle.loads(pickle.dumps(cache)).get("a") == b"1"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is not a database" * 100)
    with pytest.raises(UserError, match=r"--data\.cache: expected a cache of mmalign .* delete it"):
        DiskCache(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--data\.cache: expected a folder that can be written"):
        DiskCache(tmp_path / "file" / "below")


def test_large_values_are_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmalign.data.caching.disk_cache.MAX_BYTES", 10)
    cache = DiskCache(tmp_path)
    cache.put("a", bytes(11))
    assert not cache.has("a")


def test_a_schema_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    """SQLite quotes the damaged bytes in its message, which Python cannot decode."""
    DiskCache(tmp_path).put("a", b"1")
    data = (tmp_path / FILE).read_bytes()
    assert b"CREATE TABLE" in data
    (tmp_path / FILE).write_bytes(data.replace(b"CREATE TABLE", b"CREATE \xffABLE"))
    with pytest.raises(UserError, match="got a damaged file .*delete it"):
        DiskCache(tmp_path)
