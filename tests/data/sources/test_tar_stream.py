import http.server
import io
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmalign.data.sources import tar_stream as module
from mmalign.data.sources.base import SourceConfig
from mmalign.data.sources.record_stream import ListedStream, LostShard, open_stream
from mmalign.data.sources.tar_stream import TarStream, shard_addresses
from mmalign.data.sources.webdataset import WebdatasetSource
from mmalign.errors import UserError
from tests.data.streaming.conftest import COLUMNS, TOWERS, shards, tar_stream, write_tar

__all__ = ["shards"]  # a fixture


def test_streamed_records_are_the_listed_ones_with_content(shards: Callable[..., str]) -> None:
    manifest = shards(2, 3)
    listed = WebdatasetSource(SourceConfig("webdataset", manifest, columns=COLUMNS, towers=TOWERS))
    streamed = [record for shard in range(2) for record in tar_stream(manifest).read(shard)]
    assert [record.id for record in streamed] == [record.id for record in listed.records()]
    for one, other in zip(streamed, listed.records(), strict=True):
        assert one.values["text"] == other.values["text"]
        assert one.values["image"] == (listed.fetch(other.values["image"][0]),)
    assert isinstance(open_stream(WebdatasetSource, listed.config), TarStream)


def test_rows_are_estimated_from_one_shard(shards: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = tar_stream(shards(20, 3))
    opened: list[str] = []
    real = module._opened
    monkeypatch.setattr(module, "_opened", lambda address: (opened.append(address), real(address))[1])
    assert stream.rows() == 60
    assert len(opened) == 1


def test_member_that_is_too_large_or_a_link_is_a_rejected_record(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.png": b"x" * 3000, "a.txt": b"a", "b.png": b"x", "b.txt": b"\xff"})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    config = SourceConfig("webdataset", str(path), columns=COLUMNS, towers=TOWERS, options={"max_file_mb": 0.002})
    problems = [record.problem for record in TarStream(config).read(0)]
    assert [problem and problem.reason for problem in problems] == [
        "expected a file of at most 2000 bytes, got 3000 bytes",
        "expected UTF-8, got the byte 0xff",
        "expected a regular file, got a link or device",
    ]


@pytest.mark.parametrize("cut", [10_240, 700, 1, 2_000])
def test_truncated_shard_is_lost_after_its_whole_records(shards: Callable[..., str], cut: int) -> None:
    stream = tar_stream(shards(1, 8))
    path = Path(stream.addresses[0])
    data = path.read_bytes()
    end = data.rstrip(b"\0")
    path.write_bytes(data[: len(end) - cut] if cut < len(end) else data[:300])
    found: list[Any] = []
    with pytest.raises(LostShard, match=r"s-000\.tar: expected a whole tar, got after \d records ReadError"):
        found.extend(stream.read(0))
    assert len(found) < 8


def test_columns_are_compared_with_the_first_shard(shards: Callable[..., str]) -> None:
    with pytest.raises(UserError, match=r"no member ends in \.pgn; did you mean 'png'"):
        tar_stream(shards(), {"image": "pgn", "text": "txt"})


@pytest.mark.parametrize("pattern", ["pipe:cat /etc/passwd", "simplecache::http://host/a.tar", "htp://host/a.tar"])
def test_other_addresses_are_refused(pattern: str) -> None:
    with pytest.raises(UserError, match="expected local shards or an address that starts with one of file, http"):
        shard_addresses(pattern)


def test_file_address(shards: Callable[..., str]) -> None:
    manifest = shards(2, 2)
    local, address = tar_stream(manifest), tar_stream(f"file://{manifest}")
    assert [list(local.read(n)) for n in range(2)] == [list(address.read(n)) for n in range(2)]
    assert address.rows() is None


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `failures` answers of a file are cut after half of their bytes."""

    failures = 0
    requests: list[str] = []

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        type(self).requests.append(self.path)
        data = source.read()
        if type(self).failures > 0 and self.path.endswith("s-001.tar"):
            type(self).failures -= 1
            data = data[: len(data) // 2]
            self.close_connection = True
        outputfile.write(data)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    Server.failures, Server.requests = 0, []
    handler = type(
        "Handler", (Server,), {"__init__": lambda self, *a: Server.__init__(self, *a, directory=str(tmp_path))}
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_shards_of_a_server(shards: Callable[..., str], served: str) -> None:
    local = tar_stream(shards(2, 3))
    remote = tar_stream(f"{served}/shards/s-{{000..001}}.tar")
    for shard in range(2):
        assert list(remote.read(shard)) == list(local.read(shard))


def test_lost_connection_is_tried_again_and_no_record_is_read_twice(
    shards: Callable[..., str], served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT", 0.0)
    local = tar_stream(shards(2, 30))
    remote = tar_stream(f"{served}/shards/s-{{000..001}}.tar")
    Server.failures = 2
    for handler in Server.__subclasses__():
        handler.failures = 2  # type: ignore[attr-defined]
    assert [record.id for record in remote.read(1)] == [record.id for record in local.read(1)]
    for handler in Server.__subclasses__():
        handler.failures = 9  # type: ignore[attr-defined]
    with pytest.raises(LostShard, match=r"s-001\.tar: expected a whole tar, got after"):
        list(remote.read(1))
    with pytest.raises(LostShard, match="FileNotFoundError"):
        list(tar_stream(f"{served}/shards/s-{{000..002}}.tar").read(2))


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.tar"
        with tarfile.open(path, "w") as archive:
            for number in range(rows):
                for name, data in ((f"{number}.png", b"p" * 20_000), (f"{number}.txt", b"text")):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        stream = tar_stream(str(path))
        tracemalloc.start()
        assert sum(1 for _ in stream.read(0)) == rows
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(800) < 1.2 * peak(100) + 50_000


def test_other_sources_are_streamed_in_blocks() -> None:
    from mmalign.data.sources.digits import DigitsSource

    config = SourceConfig("digits", columns={"image": "image", "text": "text"}, towers=TOWERS)
    stream = open_stream(DigitsSource, config)
    assert isinstance(stream, ListedStream)
    ids = [record.id for shard in range(len(stream.shards)) for record in stream.read(shard)]
    assert ids == [record.id for record in stream.source.records()]
    assert stream.rows() == len(ids) == 1797
