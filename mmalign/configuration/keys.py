"""Checks the keys and values of a configuration against the types that it fills, before anything parses it."""

import difflib
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

from mmalign.configuration.arguments import Argument, arguments_of
from mmalign.errors import UserError

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}

Path = tuple[str, ...]
OpenKeys = Callable[[type, str, Mapping[str, Any], str], Mapping[str, Argument] | None]
"""(dataclass, name of its key, its values, its own name) -> the keys below a free dictionary; None = any key."""


@dataclass(frozen=True)
class Section:
    """The type of a key whose value has the arguments of a class as keys.

    Args:
        of: The class.
    """

    of: Callable[..., Any]


def check_configuration(
    tree: Mapping[str, Any],
    keys: Mapping[str, Argument],
    label: Callable[[Path], str],
    open_keys: OpenKeys | None = None,
    *,
    exactly: bool = False,
) -> None:
    """Check every key, at every depth, and the values of simple types.

    Args:
        tree: The configuration.
        keys: Its keys; a value whose type is a dataclass, a `Section`, or a mapping or list of dataclasses is checked
            too.
        label: Path of a key -> what the user calls it, such as `--model.dim`.
        open_keys: The keys of free dictionaries, where they are known.
        exactly: As in `fits`.

    Raises:
        UserError: a key does not exist, or a value has another type; the message names the key and the nearest one.

    Example:
        >>> from mmalign.training.optimizer import OptimizerConfig
        >>> check_configuration({"lrr": 1}, arguments_of(OptimizerConfig), ".".join)
        Traceback (most recent call last):
        mmalign.errors.UserError: lrr: no such key; did you mean lr?
    """

    def walk(node: Mapping[str, Any], keys: Mapping[str, Argument], path: Path) -> None:
        for name, value in node.items():
            key = str(name).removesuffix("+")  # `--trainer.callbacks+` appends
            if key not in keys:
                shown = label((*path, str(name)))
                longer = [known for known in keys if known.startswith(f"{key}_")]
                close = longer or difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
                dashes = "--" if shown.startswith("--") else ""
                hint = (
                    f"; did you mean {dashes}{'.'.join((*path, close[0]))}?"
                    if close
                    else f" (known: {', '.join(keys)})"
                )
                raise UserError(f"{shown}: no such key{hint}")
            check(value, keys[key].kind, (*path, key))

    def check(value: Any, kind: Any, path: Path) -> None:
        if not fits(value, kind, exactly=exactly):
            raise UserError(f"{label(path)}: expected {words(kind)}, got {shown(value)}")
        for one in _alternatives(kind):
            inner = get_args(one)[-1] if get_origin(one) in (dict, list) else None
            if isinstance(one, Section) and isinstance(value, Mapping):
                walk(value, arguments_of(one.of), path)
            elif is_dataclass(one) and isinstance(one, type) and isinstance(value, Mapping):
                walk(value, arguments_of(one), path)
                for name, below in value.items():
                    known = open_keys(one, name, value, path[-1]) if open_keys and isinstance(below, Mapping) else None
                    if known is not None:
                        walk(below, known, (*path, name))
            elif is_dataclass(inner) and isinstance(value, Mapping):
                for name, below in value.items():
                    check(below, inner, (*path, str(name)))
            elif is_dataclass(inner) and isinstance(value, list):
                for index, below in enumerate(value):
                    check(below, inner, (*path, str(index)))

    walk(tree, keys, ())


def fits(value: Any, kind: Any, *, exactly: bool = False) -> bool:
    """Whether a value can have a type; a type that is none of the simple ones takes any value.

    Args:
        value: The value.
        kind: The type.
        exactly: As a constructor takes it. Otherwise also the text of a value, as a command line has it, and numbers
            that are not finite.

    Example:
        >>> fits("two", int | None), fits(None, int | None), fits("1e-3", float)
        (False, True, True)
        >>> fits("1e-3", float, exactly=True), fits([1, "x"], list[int], exactly=True)
        (False, False)
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, one, exactly=exactly) for one in inner)
    if origin is Literal:
        return value in inner if exactly else str(value) in map(str, inner)
    if kind is type(None):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return _is_finite(value) if exactly else _is_number(value)
    if kind is str:
        return isinstance(value, str) if exactly else not isinstance(value, Mapping | list)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping if exactly else Mapping | str | None)
    if exactly and origin in (list, tuple, Sequence) and inner:
        return isinstance(value, list | tuple) and all(fits(one, inner[0], exactly=True) for one in value)
    return True


def words(kind: Any) -> str:
    """A type as an error message names it.

    Example:
        >>> words(int | None)
        'a whole number or null'
    """
    return " or ".join(dict.fromkeys(map(_word, _alternatives(kind))))


def _word(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if origin in (list, tuple, Sequence):
        return "a list"
    return _WORDS.get(kind) or ("a mapping" if origin in (dict, Mapping) else "a mapping or a list")


def merge(tree: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of a configuration with one value set; mappings are made where there are none, a list takes an index.

    Example:
        >>> merge({"pairs": [{"a": 1}]}, ["pairs", "0", "b"], 2)
        {'pairs': [{'a': 1, 'b': 2}]}
    """
    if not path:
        return value
    if isinstance(tree, list) and path[0].isdigit() and int(path[0]) < len(tree):
        return [merge(one, path[1:], value) if str(i) == path[0] else one for i, one in enumerate(tree)]
    node = dict(tree) if isinstance(tree, Mapping) else {}
    return {**node, path[0]: merge(node.get(path[0]), path[1:], value)}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def shown(value: Any) -> str:
    """A value as a message quotes it."""
    try:
        return f"{value!r:.200}"
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a {type(value).__name__}"


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        float(value)
    except (ValueError, OverflowError):  # an integer beyond the largest float
        return False
    return True


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a nested configuration, with dots, and its value; an empty dictionary is a value.

    Example:
        >>> dict(leaves({"model": {"dim": 8, "args": {}}}))
        {'model.dim': 8, 'model.args': {}}
    """
    for key, value in tree.items():
        full = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and value:
            yield from leaves(value, full)
        else:
            yield full, value
