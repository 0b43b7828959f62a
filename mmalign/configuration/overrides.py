"""Parsing with errors that a user can act on, and free dictionaries below typed keys."""

import json
from collections.abc import Mapping
from typing import Any

import jsonargparse

from mmalign.configuration.arguments import Argument
from mmalign.configuration.keys import OpenKeys, Section, check_configuration, merge, shown
from mmalign.errors import UserError
from mmalign.safe_io.safe_yaml import parse_yaml

OPEN_DICTS = ("args", "transform", "options", "encoder_args")
"""Keys whose value is a free dictionary, filled by the registered thing that they configure."""


def parse(parser: jsonargparse.ArgumentParser, arguments: list[str], keys: Mapping[str, Argument]) -> Any:
    """Check the keys of a command line, then parse it.

    Args:
        parser: The command's parser.
        arguments: The command line.
        keys: The command's keys, see `mmalign.configuration.keys.check_configuration`; empty = already checked.

    Raises:
        UserError: a key does not exist, or a value cannot be used.
    """
    if keys:
        check_flags(arguments, keys)
    try:
        return parser.parse_args(arguments)
    except jsonargparse.ArgumentError as error:
        raise UserError(" ".join(str(error).split())) from error


def check_flags(
    arguments: list[str],
    keys: Mapping[str, Argument],
    content: Mapping[str, Any] | None = None,
    file: str = "",
    open_keys: OpenKeys | None = None,
) -> None:
    """Check a configuration and the command line that overrides it: each key, and the values of simple types.

    Args:
        arguments: The command line.
        keys: Keys of the configuration.
        content: The configuration that the command line overrides.
        file: Its name, for messages.
        open_keys: The keys of free dictionaries, see `mmalign.configuration.keys.check_configuration`.

    Example:
        >>> check_flags(["--sede", "3"], {"seed": Argument("seed", int)})
        Traceback (most recent call last):
        mmalign.errors.UserError: --sede: no such key; did you mean --seed?
    """
    tree: Any = content or {}
    for key, value in (content or {}).items():  # flags would replace it
        if key in keys and isinstance(keys[key].kind, Section) and not isinstance(value, Mapping):
            raise UserError(f"{file}: {key}: expected keys and their values, got {shown(value)}")
    pairs = pairs_of(arguments)
    for key, value in pairs:
        tree = merge(tree, key.split("."), True if value is None else _value(value))
    named = [key.split(".") for key, _ in pairs]

    def label(path: tuple[str, ...]) -> str:
        typed = any([*path][: len(key)] == key[: len(path)] for key in named) or not file
        return f"--{'.'.join(path)}" if typed else f"{file}: {'.'.join(path)}"

    check_configuration(tree, keys, label, open_keys)


def _value(text: str) -> Any:
    try:
        return parse_yaml(text, "the command line")
    except UserError:
        return text


def pairs_of(arguments: list[str]) -> list[tuple[str, str | None]]:
    """Each flag, without its dashes, and its value (None where it has none)."""
    pairs: list[tuple[str, str | None]] = []
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        if argument.startswith("--"):
            key, equals, value = argument[2:].partition("=")
            pairs.append((key, value if equals else None if following.startswith("--") else following))
    return pairs


def fold_open_dicts(arguments: list[str], base: dict[str, Any]) -> list[str]:
    """Turn `--model.towers.x.args.size 32` into one JSON value for `--model.towers.x.args`, merged over the recipe.

    Keys below `args`, `transform` and `options` are arguments of registered components; the parser does not check them.
    If a flag changes a tower's encoder, the recipe's `args` and `transform` of that tower are dropped.

    Raises:
        UserError: a flag without its value, a value that is no dictionary, or an index beyond the recipe's pairs.

    Example:
        >>> fold_open_dicts(["--data.options.k", "3"], {"data": {"options": {"j": 1}}})
        ['--data.options={"j": 1, "k": 3}']
    """
    unchanged: list[str] = []
    trees: dict[str, Any] = {
        f"{tower}.{key}": {} for tower in _changed(arguments, base) for key in ("args", "transform")
    }
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.partition("=")
        path = key.removeprefix("--").split(".")
        if path[:2] == ["model", "pairs"] and len(path) > 2 and path[2].isdigit():  # one entry of a list
            cut: int | None = 1
        else:
            cut = next((depth for depth, part in enumerate(path) if part in OPEN_DICTS), None)
        if not key.startswith("--") or cut is None:
            unchanged.append(argument)
            continue
        if not equals:
            if not rest:
                raise UserError(f"{key} needs a value")
            value = rest.pop(0)
        top = ".".join(path[: cut + 1])
        parsed = parse_yaml(value, key)
        if cut == len(path) - 1:  # the whole dictionary
            if not isinstance(parsed, dict | None):
                raise UserError(f"{key}: expected a dictionary such as '{{size: 32}}', got {value!r}")
            trees[top] = parsed or {}
            continue
        if top not in trees:
            trees[top] = json.loads(json.dumps(_at(base, path[: cut + 1])))  # a copy: the recipe is not changed
        if isinstance(trees[top], list) and int(path[2]) >= len(trees[top]):
            last = f"an index of 0 to {len(trees[top]) - 1}, as the recipe has {len(trees[top])}"
            raise UserError(f"--{top}.{path[2]}: expected {last}; to add a pair, set --{top} to the whole list")
        trees[top] = merge(trees[top], path[cut + 1 :], parsed)
    return unchanged + [f"--{top}={json.dumps(tree)}" for top, tree in trees.items()]


def _changed(arguments: list[str], base: dict[str, Any]) -> list[str]:
    """The towers (`model.towers.x`) that get another encoder than the recipe's."""
    changed = []
    for index, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        path = key.removeprefix("--").split(".")
        if path[:2] == ["model", "towers"] and path[3:] == ["encoder"]:
            value = value if equals else next(iter(arguments[index + 1 :]), "")
            if value != _at(base, path):
                changed.append(".".join(path[:3]))
    return changed


def _at(tree: Any, path: list[str]) -> Any:
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree or {}
