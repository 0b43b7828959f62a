"""Parsing with errors that a user can act on, and free dictionaries below typed keys."""

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

import jsonargparse
import yaml

from mmalign.errors import UserError
from mmalign.model import TowerConfig
from mmalign.objectives.pairs import PairConfig
from mmalign.registry import nearest

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"}

OPEN_DICTS = ("args", "transform", "options")
"""Keys whose value is a free dictionary, filled by the registered thing that they configure."""


def parse(parser: jsonargparse.ArgumentParser, arguments: list[str], nested: Mapping[str, type] | None = None) -> Any:
    """Parse; what does not fit becomes a `UserError` of one line that names the nearest flag or key.

    Args:
        parser: The command's parser.
        arguments: The command line.
        nested: Key -> dataclass of its value, see `check_keys`.
    """
    check_keys(arguments, nested or {})
    try:
        return parser.parse_args(arguments)
    except jsonargparse.ArgumentError as error:
        text = " ".join(str(error).split())
        for key, value in _pairs(arguments):
            types = re.findall(r"Expected a <class '(\w+)'>", text)
            if types and f'Parser key "{key}":' in text:
                kinds = " or ".join(dict.fromkeys(_KINDS.get(kind, kind) for kind in types))
                raise UserError(f"--{key}: expected {kinds}, got {value!r}") from error
        raise UserError(text + _hint(parser, text)) from error


def check_keys(arguments: list[str], nested: Mapping[str, type]) -> None:
    """Check the keys below those whose value is one dataclass for the parser.

    Args:
        arguments: The command line.
        nested: Key -> dataclass of its value; `model.towers.*` = of each of its entries.

    Raises:
        UserError: a key does not exist; the message has the nearest one and all others.

    Example:
        >>> check_keys(["--model.towers.image.encodr", "vit"], {"model.towers.*": TowerConfig})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mmalign.errors.UserError: ...
    """
    for key, _ in _pairs(arguments):
        path = key.split(".")
        for pattern, kind in nested.items():
            depth = pattern.count(".") + 1
            if len(path) > depth and fnmatch(".".join(path[:depth]), pattern):
                known = [field.name for field in dataclasses.fields(kind)]
                if path[depth] not in known:
                    raise UserError(f"--{key}: no such key{nearest(path[depth], known)}")


def _pairs(arguments: list[str]) -> list[tuple[str, str]]:
    """Each flag, without its dashes, and its value ("" where it has none)."""
    pairs = []
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument.startswith("--"):
            key, equals, value = argument[2:].partition("=")
            pairs.append((key, value if equals else following))
    return pairs


def fold_open_dicts(arguments: list[str], base: dict[str, Any]) -> list[str]:
    """Turn `--model.towers.x.args.size 32` into one JSON value for `--model.towers.x.args`, merged over the recipe.

    The parser knows typed keys; below `args`, `transform` and `options` the keys belong to registered things. Where a
    tower's encoder is changed, the recipe's `args` and `transform` of that tower go with the encoder they were for.

    Example:
        >>> fold_open_dicts(["--data.options.k", "3"], {"data": {"options": {"j": 1}}})
        ['--data.options={"j": 1, "k": 3}']
    """
    kept: list[str] = []
    trees: dict[str, Any] = {
        f"{tower}.{key}": {} for tower in _changed(arguments, base) for key in ("args", "transform")
    }
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.partition("=")
        path = key.removeprefix("--").split(".")
        cut = next((place for place, part in enumerate(path) if part in OPEN_DICTS), None)
        if not key.startswith("--") or cut is None:
            kept.append(argument)
            continue
        if not equals:
            if not rest:
                raise UserError(f"{key} needs a value")
            value = rest.pop(0)
        top = ".".join(path[: cut + 1])
        parsed = yaml.safe_load(value)
        if cut == len(path) - 1:  # the whole dictionary
            if not isinstance(parsed, dict | None):
                raise UserError(f"{key}: expected a dictionary such as '{{size: 32}}', got {value!r}")
            trees[top] = parsed or {}
            continue
        if top not in trees:
            trees[top] = json.loads(json.dumps(_at(base, path[: cut + 1])))  # a copy: the recipe is not changed
        node = trees[top]
        for part in path[cut + 1 : -1]:
            node = node.setdefault(part, {})
        node[path[-1]] = parsed
    return kept + [f"--{top}={json.dumps(tree)}" for top, tree in trees.items()]


def _changed(arguments: list[str], base: dict[str, Any]) -> list[str]:
    """The towers (`model.towers.x`) that get another encoder than the recipe's."""
    changed = []
    for place, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        path = key.removeprefix("--").split(".")
        if path[:2] == ["model", "towers"] and path[3:] == ["encoder"]:
            value = value if equals else next(iter(arguments[place + 1 :]), "")
            if value != _at(base, path):
                changed.append(".".join(path[:3]))
    return changed


def _at(tree: Any, path: list[str]) -> Any:
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree or {}


def _hint(parser: jsonargparse.ArgumentParser, text: str) -> str:
    """`; did you mean ...` where the message names a flag or key that does not exist."""
    unknown = re.search(r"(?:unrecognized arguments?|[Kk]ey|Option|option) *:? *['\"]?(-*[\w.]+)", text)
    if "unrecognized" in text:
        wrong = re.findall(r"--[\w.]+", text.split("unrecognized", 1)[1])
        known = [f"--{key}" for key in parser.get_defaults(skip_validation=True).keys()]  # noqa: SIM118 - a Namespace
        close = difflib.get_close_matches(wrong[0], known, n=1) if wrong else []
    else:
        wrong = re.findall(r"['\"]([\w.]+)['\"] is not (?:accepted|expected)", text) or (
            [unknown.group(1)] if unknown else []
        )
        fields = [field.name for kind in (TowerConfig, PairConfig) for field in dataclasses.fields(kind)]
        leaves = [key.rpartition(".")[2] for key in parser.get_defaults(skip_validation=True).keys()]  # noqa: SIM118
        close = difflib.get_close_matches(wrong[0].rpartition(".")[2], fields + leaves, n=1) if wrong else []
    return f"; did you mean {close[0]!r}?" if close else ""
