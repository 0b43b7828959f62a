"""Shards in the webdataset layout with small pictures and sentences."""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mmalign.data.sources.base import SourceConfig
from mmalign.data.sources.tar_stream import TarStream

COLUMNS = {"image": "png", "text": "txt"}
TOWERS = {"image": False, "text": True}


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path: Path, png: Callable[..., bytes]) -> Callable[..., str]:
    """Writes shards and returns their pattern; every picture has its own colour, every sentence its own number."""

    def write(count: int = 6, each: int = 5, damaged: tuple[int, ...] = (), folder: str = "shards") -> str:
        (tmp_path / folder).mkdir()
        for shard in range(count):
            members = {}
            for row in range(each):
                number = shard * each + row
                members[f"{number:04}.png"] = b"no picture" if number in damaged else png(number % 256)
                members[f"{number:04}.txt"] = f"picture {number}".encode()
            write_tar(tmp_path / folder / f"s-{shard:03}.tar", members)
        return str(tmp_path / folder / f"s-{{000..{count - 1:03}}}.tar")

    return write


def tar_stream(manifest: str, columns: Mapping[str, str] = COLUMNS) -> TarStream:
    return TarStream(SourceConfig("webdataset", manifest, columns=dict(columns), towers=TOWERS))
