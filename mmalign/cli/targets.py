"""Files that a command writes, checked before its work: a wrong name must not cost an hour of computation."""

import json
from pathlib import Path
from typing import Any, overload

from mmalign.errors import UserError
from mmalign.safe_io.safe_writing import replaced


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
    file = Path(path).expanduser()
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


def rows_target(path: str | None, task: str) -> Path | None:
    """A file for the rows of a task's result; its folder is made.

    Raises:
        UserError: the task has no rows, the file is a folder, or it ends neither in .parquet nor in .csv.
    """
    from mmalign.evaluation.registry import TASKS, require_task
    from mmalign.evaluation.report.rows import rows_file

    if path is None:
        return None
    require_task(task)
    if not TASKS[task].has_rows:
        have = ", ".join(name for name, one in TASKS.items() if one.has_rows)
        raise UserError(f"--rows: the task {task!r} has no results by query or sample; these have: {have}")
    return target(str(rows_file(path)))


def rows_path(path: str | None) -> Path | None:
    """A file for the rows of several tasks.

    Raises:
        UserError: it ends neither in .parquet nor in .csv.
    """
    from mmalign.evaluation.report.rows import rows_file

    return None if path is None else rows_file(path)


def negatives_target(path: str) -> Path:
    """A file for mined negatives; its folder is made.

    Raises:
        UserError: it is a folder, or ends neither in .parquet nor in .csv.
    """
    from mmalign.data.batching.negatives_file import negatives_file

    return target(str(negatives_file(path)))


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, replacing the file as a whole."""
    with replaced(file) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
