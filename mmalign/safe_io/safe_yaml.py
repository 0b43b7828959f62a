"""YAML of strangers: bounded in size, in depth and in what its aliases expand to."""

from pathlib import Path
from typing import Any

import yaml

from mmalign.errors import UserError

MAX_BYTES = 1 << 20
"""Largest file."""

MAX_NODES = 100_000
"""Maximum number of values, including those that aliases repeat."""


def read_yaml(path: Path | str, what: str) -> Any:
    """The content of a YAML file.

    Args:
        path: The file.
        what: What it is, with its name, for messages: `prompts a.yaml`.

    Raises:
        UserError: it is no regular file, cannot be read, is larger than 1 MiB, or as `parse_yaml`.
    """
    path = Path(path).expanduser()
    try:
        if path.exists() and not path.is_file():  # a pipe would not end
            raise UserError(f"{what}: expected a file, got {'a folder' if path.is_dir() else 'a device or pipe'}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UserError(f"{what}: cannot be read ({getattr(error, 'strerror', error)})") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{what}: expected at most {MAX_BYTES} bytes, got more")
    return parse_yaml(data, what)


def parse_yaml(text: str | bytes, what: str) -> Any:
    r"""Parse YAML without running code.

    Raises:
        UserError: it is not YAML, is nested too deeply, or its aliases expand to more than `MAX_NODES` values.

    Example:
        >>> parse_yaml("base: &b [1, 2]\nother: *b", "a recipe")
        {'base': [1, 2], 'other': [1, 2]}
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _size(node, {}) > MAX_NODES:
                raise UserError(f"{what}: expected at most {MAX_NODES} values, got aliases that expand to more")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        came = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        raise UserError(f"{what}: not a YAML file ({came})") from error
    except UserError:
        raise
    except (ValueError, TypeError) as error:  # a number of many digits, a date that does not exist
        raise UserError(f"{what}: not a YAML file ({' '.join(str(error).split())[:200]})") from error


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values with aliases expanded; a value inside itself counts as too many."""
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # while it is open
        total = 1
        if isinstance(node, yaml.MappingNode):
            total += sum(_size(key, known) + _size(value, known) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(_size(value, known) for value in node.value)
        known[id(node)] = total
    return known[id(node)]
