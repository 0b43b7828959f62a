"""The files of a bundle: JSON with a bound on its size, and hashes that say which files belong together."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmalign.data.files.store import file_sha256
from mmalign.errors import UserError

MAX_JSON_BYTES = 256 * 2**20
"""Largest JSON file; a tokenizer has a few MB."""


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON in UTF-8.

    Raises:
        UserError: a number is NaN or infinite: `read_json` refuses such a file.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise UserError(f"{path.name}: expected finite settings and statistics, got a NaN or an infinity") from error
    path.write_text(text + "\n", encoding="utf-8")


def finite_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or a number is NaN, infinite or beyond the range of floats.

    Example:
        >>> finite_json('{"sd": [0.5, 1e400]}')
        Traceback (most recent call last):
        ValueError: expected finite numbers, got 1e400
    """
    return json.loads(text, parse_constant=_refused, parse_float=_finite)


def finite(value: Any) -> Any:
    """JSON values with null in place of NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refused(number: str) -> float:
    raise ValueError(f"expected finite numbers, got {number[:40]}")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refused(number)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a bundle.

    Raises:
        UserError: it is no regular file, is larger than `MAX_JSON_BYTES`, or holds something else.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would not end
            raise UserError(f"{path}: expected a file of this bundle, got a folder, a device or a pipe")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(
                f"{path}: expected at most {MAX_JSON_BYTES >> 20} MB of JSON, got {path.stat().st_size} bytes"
            )
        value = finite_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: expected a file of this bundle, got {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def demand_whole(folder: Path, hashes: Any) -> None:
    """Refuse a bundle whose files are not those that were saved together; older bundles have no hashes."""
    for name, expected in hashes.items() if isinstance(hashes, dict) else ():
        file = folder / str(name)
        if Path(name).is_absolute() or ".." in Path(name).parts or not file.is_file():
            raise UserError(f"{file}: expected a file of this bundle, got no such file; copy the whole bundle again")
        if file_sha256(file) != expected:
            raise UserError(
                f"{file} does not fit its configuration: it is damaged, or not the file that was saved with it (a save "
                "may have been interrupted); save or copy the bundle again"
            )
