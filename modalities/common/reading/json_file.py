"""JSON files of published data sets, read with a bound on their size."""

import json
from pathlib import Path
from typing import Any

from mmalign.errors import UserError

MAX_BYTES = 1 << 29
"""Largest file: its values need several times as much memory."""


def read_json(path: Path, *, most: int = MAX_BYTES) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: it does not exist, is larger than `most` bytes, or is no JSON.
    """
    try:
        size = path.stat().st_size
        if not path.is_file() or size > most:
            raise UserError(f"{path}: expected a JSON file of at most {most} bytes, got {_kind(path, size)}")
        return json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, no JSON, a number of many digits
        came = "one that is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path}: expected a JSON file, got {came[:200]}") from error


def _kind(path: Path, size: int) -> str:
    return f"{size} bytes" if path.is_file() else "another thing than a file"
