"""Files by name from a folder, a tar or a zip: only regular files inside it, up to a maximum size."""

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath

from mmalign.errors import BadSample

MAX_BYTES = 1 << 30
"""Default maximum size of one file."""


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
        """The names of the files, sorted."""

    @abstractmethod
    def fetch(self, name: str) -> Path | bytes:
        """Fetch a file: its path in a folder, its bytes in an archive.

        Raises:
            BadSample: it is missing, leaves the folder, is a link or another thing than a file, or is too large.
        """

    @abstractmethod
    def fingerprint(self, names: Iterable[str]) -> str:
        """SHA-256 of the content: of the named files of a folder, of the whole archive otherwise."""

    def _check_size(self, name: str, size: int) -> None:
        if size > self.max_bytes:
            raise BadSample(self._where(name), f"a file of at most {self.max_bytes} bytes", f"{size} bytes")

    def _where(self, name: str) -> str:
        return f"{self.path.name}!{name}"


def safe_name(name: str, inside: Path) -> str:
    """A name without `.` and doubled slashes.

    Raises:
        BadSample: it is empty, absolute, or leaves the folder by `..`.

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
        raise BadSample(name, expected, "a name that leaves the folder by '..'")
    return "/".join(parts)


def spellings(name: str) -> Iterator[str]:
    r"""How other systems write the same name: composed or decomposed accents (macOS), backslashes (Windows).

    Example:
        >>> list(spellings("pics\\1.png")), [len(one) for one in spellings("\u00e9.png")]
        (['pics/1.png'], [6])
    """
    slashes = name.replace("\\", "/")
    forms = [unicodedata.normalize(form, one) for one in (name, slashes) for form in ("NFC", "NFD")]
    yield from (one for one in dict.fromkeys([slashes, *forms]) if one != name)


def exists(path: Path) -> bool:
    """Whether there is anything at a path; no for a name that the system does not take, such as one too long.

    Example:
        >>> exists(Path("x" * 5000))
        False
    """
    try:
        return path.exists()
    except OSError:
        return False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, of the names and bytes of the files directly in it."""
    if path.is_dir():
        root, digest = path.resolve(), hashlib.sha256()
        for member in sorted(path.iterdir()):
            if member.is_file() and member.resolve().is_relative_to(root):
                digest.update(f"{member.name}\0{file_sha256(member)}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
