"""The check of a path before a modality reads it."""

import stat
from pathlib import Path

from mmalign.errors import BadSample, MissingFile


def demand_file(path: Path, wanted: str, *, most: int | None = None, name: str | Path | None = None) -> None:
    """Refuse a path that is no regular file (reading a pipe or a device would not end), or a file that is too large.

    Args:
        path: The path.
        wanted: What the modality reads, for the message.
        most: Largest size in bytes; None = not limited here.
        name: What the message calls it; default: the path.

    Raises:
        BadSample: it is a folder, does not exist, or is too large.

    Example:
        >>> demand_file(Path("nowhere.png"), "a picture")
        Traceback (most recent call last):
        mmalign.errors.MissingFile: nowhere.png: expected a picture, got no such file
    """
    shown = path if name is None else name
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFile(shown, wanted, "no such file") from error
    except (OSError, ValueError) as error:  # a name that is too long, links that form a loop, a zero byte
        raise BadSample(str(shown)[:200], wanted, f"a path that cannot be opened ({type(error).__name__})") from error
    if stat.S_ISDIR(status.st_mode):
        raise BadSample(shown, wanted, "a folder")
    if not stat.S_ISREG(status.st_mode):
        raise BadSample(shown, wanted, "a device or pipe")
    if most is not None and status.st_size > most:
        raise BadSample(shown, f"a file of at most {most} bytes", f"{status.st_size} bytes")


def demand_name(path: Path, wanted: str) -> None:
    """Refuse a path that the system does not take: too long, with a zero byte, without a name, or in a closed folder.

    Args:
        path: The path; there may be nothing at it.
        wanted: What the modality reads, for the message.

    Raises:
        BadSample: it is such a path.
    """
    came = "" if path.name else "a path without a name"
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        came = f"a path that cannot be opened ({type(error).__name__})"
    if came:
        raise BadSample(str(path)[:200], wanted, came)


def is_file(path: Path) -> bool:
    """Whether a path is a regular file; no for a name that the system does not take, such as one that is too long.

    Example:
        >>> is_file(Path("x" * 5000))
        False
    """
    try:
        return path.is_file()
    except OSError:
        return False


def demand_beside(file: Path, named: Path) -> None:
    """Refuse a file that a reader opens beside another one, if it is a link that leaves the folder.

    The folder is that of the named file, and, where the named file is itself a link, also that of its target.

    Args:
        file: The file that the reader opens; it exists.
        named: The file that the user named.

    Raises:
        BadSample: it is such a link.
    """
    real = file.resolve()
    if not any(real.is_relative_to(folder) for folder in (named.parent.resolve(), named.resolve().parent)):
        raise BadSample(file, f"a file in the folder of {named.name}", "a link that leaves it")
