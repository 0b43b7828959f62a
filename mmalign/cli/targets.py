"""Files that a command writes, checked before its work: a wrong name must not cost an hour of computation."""

from pathlib import Path
from typing import overload

from mmalign.errors import UserError


@overload
def target(path: str) -> Path: ...
@overload
def target(path: str | None) -> Path | None: ...
def target(path: str | None) -> Path | None:
    """A file to write; its folder is made.

    Raises:
        UserError: it is a folder.
    """
    if path is None:
        return None
    file = Path(path)
    if file.is_dir():
        raise UserError(f"{path}: expected the name of a file to write, got a folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@overload
def picture_target(path: str) -> Path: ...
@overload
def picture_target(path: str | None) -> Path | None: ...
def picture_target(path: str | None) -> Path | None:
    """A picture to write; its folder is made.

    Raises:
        UserError: it is a folder, or no format of a picture.
    """
    from mmalign.pictures.figures import known_format

    return None if path is None else target(str(known_format(path)))
