"""The check of a path before a modality reads it."""

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
    if path.is_dir():
        raise BadSample(shown, wanted, "a folder")
    if not path.is_file():
        if path.exists():
            raise BadSample(shown, wanted, "a device or pipe")
        raise MissingFile(shown, wanted, "no such file")
    if most is not None and (size := path.stat().st_size) > most:
        raise BadSample(shown, f"a file of at most {most} bytes", f"{size} bytes")


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
