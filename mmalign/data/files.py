"""Files by name from a folder, a tar or a zip: nothing outside it, nothing oversized, nothing but regular files."""

import hashlib
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from mmalign.errors import BadSample, UserError

MAX_BYTES = 1 << 30
"""The size above which one file is refused, unless a source is told otherwise."""


_PART = re.compile(r"#\d+$")


class FileStore(ABC):
    """Files by name; every refusal is a `BadSample`.

    Safe to share between threads, to fork, and to pickle to another process.

    Args:
        path: The folder or archive.
        max_bytes: Files larger than this, unpacked, are refused.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self.max_bytes = path, max_bytes

    @abstractmethod
    def names(self) -> list[str]:
        """The names of the files that are there, sorted."""

    @abstractmethod
    def fetch(self, name: str) -> Path | bytes:
        """The file: a path where it lies in a folder, its bytes where it lies in an archive.

        Raises:
            BadSample: it is missing, leaves the folder, is a link or another thing than a file, or is too large.
        """

    @abstractmethod
    def fingerprint(self, names: Iterable[str]) -> str:
        """SHA-256 of the content: of the files named for a folder, of the whole file for an archive."""

    def _check_size(self, name: str, size: int) -> None:
        if size > self.max_bytes:
            raise BadSample(self._where(name), f"a file of at most {self.max_bytes} bytes", f"{size} bytes")

    def _where(self, name: str) -> str:
        return f"{self.path.name}!{name}"


class FolderStore(FileStore):
    """The files below a folder. A link may point to another place in the folder, never out of it.

    A name may end in `#17`: the 17th part of that file (a row of a matrix), for a modality that reads such paths.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(path, max_bytes=max_bytes)
        self._root = path.resolve()

    def names(self) -> list[str]:
        return sorted(p.relative_to(self._root).as_posix() for p in self._root.rglob("*") if p.is_file())

    def fetch(self, name: str) -> Path:
        path = self._root / safe_name(name, self.path)
        if not (_PART.search(name) and not path.exists()):
            return self._checked(name, path)
        # The modality reads the place off the path; the file itself is what is checked.
        file = self._checked(name, path.with_name(_PART.sub("", path.name)))
        return file.with_name(path.name)

    def _checked(self, name: str, path: Path) -> Path:
        try:
            real = path.resolve(strict=True)
            status = real.stat()
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that form a loop
            came = "no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
            raise BadSample(self._where(name), f"a file in {self.path}", came) from error
        if not real.is_relative_to(self._root):
            raise BadSample(self._where(name), f"a file inside {self.path}", "a link that leaves it")
        if not stat.S_ISREG(status.st_mode):
            raise BadSample(
                self._where(name), "a regular file", "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
            )
        self._check_size(name, status.st_size)
        return path

    def fingerprint(self, names: Iterable[str]) -> str:
        digest = hashlib.sha256()
        for name in sorted({self._whole(name) for name in names}):
            try:
                content = file_sha256(self.fetch(name))
            except BadSample as error:
                content = error.expected  # a missing file is a fact of the data too
            digest.update(f"{name}\0{content}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _whole(self, name: str) -> str:
        return name if not _PART.search(name) or (self._root / name).exists() else _PART.sub("", name)

    def _where(self, name: str) -> str:
        return name


def open_store(path: str | Path, *, max_bytes: int = MAX_BYTES) -> FileStore:
    """The store over a folder, a tar (plain, or packed by gzip, bzip2 or xz) or a zip, told apart by content.

    Raises:
        UserError: there is no such file, or it is none of these.
    """
    from mmalign.data.archives import TarStore, ZipStore

    path = Path(path).expanduser()
    if path.is_dir():
        return FolderStore(path, max_bytes=max_bytes)
    if not path.is_file():
        raise UserError(f"{path}: expected a folder, tar or zip, got no such file; set --data.files")
    with path.open("rb") as file:
        is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return ZipStore(path, max_bytes=max_bytes) if is_zip else TarStore(path, max_bytes=max_bytes)


def safe_name(name: str, inside: Path) -> str:
    """A name with its `.` and doubled slashes taken out.

    Raises:
        BadSample: it is empty, absolute, or climbs out with `..`.

    Example:
        >>> safe_name("./a//b.png", Path("folder"))
        'a/b.png'
    """
    expected = f"a name relative to {inside}"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or "\0" in name:
        raise BadSample(name, expected, "an empty name" if not parts else "a name with a zero byte")
    windows = PureWindowsPath(name)
    if name.startswith(("/", "\\")) or windows.drive:
        raise BadSample(name, expected, "an absolute name")
    if ".." in windows.parts:  # Windows' parts are split at both kinds of slash
        raise BadSample(name, expected, "a name that climbs out with '..'")
    return "/".join(parts)


def content_sha256(path: Path, known: dict[Path, str]) -> str:
    """SHA-256 of what a fetched path stands for: a file, or a part of one; each file is read once (`known`)."""
    file = path if path.is_file() else path.with_name(_PART.sub("", path.name))
    if file not in known:
        known[file] = file_sha256(file)
    return known[file] if file == path else f"{known[file]} {path.name}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
