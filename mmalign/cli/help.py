"""What `--help` prints: a command's own flags, one sentence each; `--help all`: every flag, with whole descriptions."""

import json
import shutil
import textwrap
from collections.abc import Container, Iterable, Mapping
from dataclasses import is_dataclass, replace
from typing import Any, cast, get_args, get_origin

from mmalign.configuration.arguments import Argument, arguments_of, type_name

DATA = ("source", "manifest", "files", "columns")
"""Keys of `data` that `--help` prints; the others stand in `--help all`."""

_LEFT = 30


def asked_for(arguments: list[str]) -> str:
    """The help that a command line asks for: "own" = a command's own flags, "all" = every flag, "" = none."""
    for index, argument in enumerate(arguments):
        if argument in ("-h", "--help", "--help=all"):
            return "all" if "all" in (argument[7:], *arguments[index + 1 : index + 2]) else "own"
    return ""


def show_help(
    usage: str, about: str, sections: Mapping[str, Iterable[Argument]], *, whole: bool, more: str = ""
) -> None:
    """Print the help of a command.

    Args:
        usage: The command line.
        about: What the command does.
        sections: Title -> arguments whose names are printed as they are.
        whole: Print whole descriptions instead of first sentences.
        more: Closing line.
    """
    print(f"usage: mmalign {usage}\n\n{about}")
    for title, arguments in sections.items():
        lines = [describe(argument, whole=whole) for argument in arguments]
        if lines:
            print("\n".join([f"\n{title}:", *lines]))
    if more:
        print(f"\n{more}")


def describe(argument: Argument, *, whole: bool = False, typed: bool = False) -> str:
    """One argument: name, type, sentence and default, wrapped to the width of the terminal.

    Args:
        argument: A flag if its name starts with a dash.
        whole: The whole description instead of its first sentence.
        typed: Also print the type, and every default, of an argument that is not a flag.

    Example:
        >>> print(describe(Argument("--k", int, 10, "Results per query.")))
          --k int                     Results per query (default: 10).
    """
    value = type_name(argument.kind) if typed else _value(argument) if argument.name.startswith("-") else ""
    left = f"  {argument.name} {value}".rstrip()
    text = argument.about.rstrip(".") + "." if whole and argument.about else argument.sentence
    shown = typed and not argument.required
    shown = shown or (
        isinstance(argument.default, str | int | float) and argument.default is not False and argument.default != ""
    )
    if shown and "default" not in text.lower():
        text = f"{text.rstrip('.')} (default: {_printed(argument.default)})."
    lines = textwrap.wrap(text, max(40, min(120, shutil.get_terminal_size((110, 24)).columns) - _LEFT)) or [""]
    first = [left] if len(left) >= _LEFT else []
    head = f"{'' if first else left:<{_LEFT}}{lines[0]}"
    return "\n".join([*first, head, *(" " * _LEFT + line for line in lines[1:])])


def flatten(prefix: str, arguments: Iterable[Argument], *, closed: Container[str] = ()) -> list[Argument]:
    """Arguments as flags: `--prefix.name`; where a value is a dataclass, or a mapping or list of them, its fields.

    Args:
        prefix: Such as `model`; "" = none.
        arguments: Arguments of one class.
        closed: Names of arguments that are one flag, their fields not listed.
    """
    flags = []
    for argument in arguments:
        key = f"{prefix}.{argument.name}" if prefix else argument.name
        inner = [one for one in (argument.kind, *get_args(argument.kind)) if is_dataclass(one)]
        if inner and argument.name not in closed:
            below = (
                ".NAME" if get_origin(argument.kind) is dict else ".INDEX" if get_origin(argument.kind) is list else ""
            )
            flags += flatten(key + below, arguments_of(cast(type, inner[0])).values(), closed=closed)
        else:
            flags.append(replace(argument, name=f"--{key}"))
    return flags


def data_section(kind: Any, *, whole: bool) -> list[Argument]:
    """The section of the `--data` flags: the principal ones, or all."""
    flags = flatten("data", arguments_of(kind).values())
    return flags if whole else [flag for flag in flags if flag.name[7:] in DATA]


def _printed(default: Any) -> str:
    """A default value as a recipe spells it, floats with six digits."""
    if isinstance(default, float) and len(repr(default)) > 8:
        return f"{default:.6g}"
    if isinstance(default, bool | None | list | tuple):
        return json.dumps(default, default=str)  # tuples as lists
    return str(default)


def _value(argument: Argument) -> str:
    if argument.kind is bool and argument.default is False and "." not in argument.name:
        return ""  # given alone, it is true
    return type_name(argument.kind).removesuffix(" or null")
