"""A folder as a store of files."""

import hashlib
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmalign.data.files.store import MAX_BYTES, FileStore, exists, file_sha256, safe_name, spellings
from mmalign.errors import BadSample, MissingFile

_PART = re.compile(r"#[\w=.,:]+$")


class FolderStore(FileStore):
    """The files below a folder. Links may point inside the folder only.

    A name may end in `#17` or `#t=3,9.5`: a part of that file (a row of a matrix, a window in time), for a modality
    that reads such paths. A name may be a folder, such as the frames of a clip, for a modality that reads folders.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(path, max_bytes=max_bytes)
        self._root = path.resolve()

    def names(self) -> list[str]:
        return sorted(p.relative_to(self._root).as_posix() for p in self._root.rglob("*") if p.is_file())

    def fetch(self, name: str) -> Path:
        path = self._root / safe_name(name, self.path)
        if not exists(path):
            path = next((other for other in self._spelled(name) if exists(other)), path)
        if not (_PART.search(name) and not exists(path)):
            return self._checked(name, path)
        # The modality parses the part's number; only the file itself is checked here.
        file = self._checked(name, path.with_name(_PART.sub("", path.name)))
        return file.with_name(path.name)

    def _spelled(self, name: str) -> Iterator[Path]:
        for other in spellings(name):
            yield self._root / safe_name(other, self.path)

    def _checked(self, name: str, path: Path) -> Path:
        try:
            real = path.resolve(strict=True)
            status = real.stat()
        except FileNotFoundError as error:
            raise MissingFile(self._where(name), f"a file in {self.path}", "no such file") from error
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that form a loop
            came = f"{type(error).__name__}: {error}"
            raise BadSample(self._where(name), f"a file in {self.path}", came) from error
        if not real.is_relative_to(self._root):
            raise BadSample(self._where(name), f"a file inside {self.path}", "a link that leaves it")
        if stat.S_ISDIR(status.st_mode):
            return path
        if not stat.S_ISREG(status.st_mode):
            raise BadSample(self._where(name), "a regular file", "a device or pipe")
        self._check_size(name, status.st_size)
        return path

    def fingerprint(self, names: Iterable[str]) -> str:
        digest = hashlib.sha256()
        for name in sorted({self._whole(name) for name in names}):
            try:
                content = file_sha256(self.fetch(name))
            except BadSample as error:
                content = error.expected  # a missing file changes the fingerprint too
            digest.update(f"{name}\0{content}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _whole(self, name: str) -> str:
        return name if not _PART.search(name) or exists(self._root / name) else _PART.sub("", name)

    def _where(self, name: str) -> str:
        return name


def content_sha256(path: Path, known: dict[Path, str]) -> str:
    """SHA-256 of a fetched path: a file, or a part of one; each file is read once (`known`)."""
    file = path if path.is_file() else path.with_name(_PART.sub("", path.name))
    if file not in known:
        known[file] = file_sha256(file)
    return known[file] if file == path else f"{known[file]} {path.name}"
