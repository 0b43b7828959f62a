"""`mmalign list`: the registered names, as data and as a table; the arguments of one encoder, objective or source."""

import inspect
import json
import sys
from functools import cache
from importlib.metadata import Distribution
from typing import Any

from rich.console import Console
from rich.table import Table

from mmalign import recipes, registry
from mmalign.cli.help import asked_for, describe, show_help
from mmalign.configuration.arguments import Argument, arguments_of, takes_any, type_name
from mmalign.errors import UserError

CLOSING = (
    "`mmalign list image` prints a modality's encoders, "
    "`mmalign list image.convnet` or `mmalign list objective.clip` the arguments of one."
)


def list_command(arguments: list[str]) -> int:
    """Mmalign list [NAME] [--json]."""
    if asked_for(arguments):
        name = Argument("NAME", str, "", "What to describe: image, image.convnet, objective.clip or source.manifest.")
        sections = {"arguments": [name], "flags": [Argument("--json", bool, False, "Print JSON.")]}
        about = "List modalities, encoders, objectives, sources and recipes, or describe one of them."
        show_help("list [NAME] [flags]", about, sections, whole=False)
        return 0
    as_json = "--json" in arguments
    names = [argument for argument in arguments if argument != "--json"]
    for flag in names:
        if flag.startswith("-"):
            raise UserError(f"{flag}: no such flag; the only flag is --json")
    if len(names) > 1:
        raise UserError(f"expected one name, got {' '.join(names)}")
    if names:
        described = describe_name(names[0])
        if as_json:
            json.dump(described, sys.stdout, indent=2, default=_as_json)
            print()
        else:
            show_described(described)
    elif as_json:
        json.dump(collect(), sys.stdout, indent=2)
        print()
    else:
        show(collect())
        print(f"\n{CLOSING}")
    return 0


def describe_name(name: str) -> dict[str, Any]:
    """Describe a modality, or one encoder, objective or source with its arguments.

    Args:
        name: `image`, `image.convnet`, `objective.clip` or `source.manifest`.

    Returns:
        `name`, `about` and, where it has any, `entries` (name -> sentence) or `arguments` (name -> `Argument`).

    Raises:
        UserError: nothing is registered under this name.

    Example:
        >>> describe_name("objective.clip")["arguments"]["learn_scale"].default
        True
    """
    first, _, second = name.partition(".")
    groups = {"objective": "objectives", "source": "sources"}
    if first in groups:
        if not second:
            entries = {one: _about(registry.load(groups[first], one)) for one in registry.names(groups[first])}
            return {"name": name, "about": f"All {groups[first]}.", "prefix": first, "entries": entries}
        thing = registry.load(groups[first], second)
        if first == "source":
            return {"name": name, "about": inspect.getdoc(thing) or ""}  # its docstring describes columns and options
        return {"name": name, "about": _about(thing), "arguments": _arguments(thing)}
    modalities = registry.names("modalities")
    if first not in modalities:
        for prefix, group in groups.items():
            if name in registry.names(group):
                raise UserError(f"{name!r} is registered as {prefix}.{name}; run: mmalign list {prefix}.{name}")
        raise UserError(f"nothing is registered as {name!r}{registry.nearest(first, [*modalities, *groups])}")
    modality = registry.load("modalities", first)
    if not second:
        entries = {one: _about(factory) for one, factory in modality.encoders.items()}
        return {"name": name, "about": _about(modality), "prefix": first, "entries": entries}
    if second not in modality.encoders:
        raise UserError(f"modality {first!r} has no encoder {second!r}{registry.nearest(second, modality.encoders)}")
    factory = modality.encoders[second]
    return {"name": name, "about": _about(factory), "arguments": _arguments(factory, skip=1)}


def show_described(described: dict[str, Any]) -> None:
    """Print what `describe_name` returns."""
    print(f"{described['name']}: {described['about']}")
    for name, about in described.get("entries", {}).items():
        print(describe(Argument(f"{described['prefix']}.{name}", str, "", about)))
    if "arguments" in described:
        print("\narguments:" if described["arguments"] else "\nno arguments")
        for argument in described["arguments"].values():
            print(describe(argument, typed=True))


def _arguments(thing: Any, *, skip: int = 0) -> dict[str, Argument]:
    """The arguments that a recipe gives: the first ones, such as the transform, are given by mmalign."""
    arguments = [*arguments_of(thing).items()][skip:]
    if takes_any(thing):
        arguments.append(("**", Argument("...", str, "", "Further arguments, see its documentation.")))
    return dict(arguments)


@cache  # without it, the metadata of a distribution are parsed at each access
def _name(distribution: Distribution) -> str:
    return distribution.name


def collect() -> dict[str, Any]:
    """Modalities with their encoders, objectives, sources, recipes; an entry that cannot be loaded has the reason.

    Example:
        >>> sorted(collect())
        ['modalities', 'objectives', 'recipes', 'sources', 'tables']
    """
    registered: dict[str, Any] = {"recipes": recipes.names()}
    for group in registry.GROUPS:
        registered[group] = {}
        for name, point in registry.names(group).items():
            entry = {"from": _name(point.dist) if point.dist else "this process", "at": point.value}
            try:
                thing = registry.load(group, name)
            except UserError as error:
                entry["error"] = str(error)
            else:
                entry["about"] = _about(thing)
                if group == "modalities":
                    entry["encoders"] = ", ".join(thing.encoders)
            registered[group][name] = entry
    return registered


def show(registered: dict[str, Any]) -> None:
    """Print it as tables."""
    console = Console()
    for group in registry.GROUPS:
        table = Table(title=group, title_justify="left", show_edge=False)
        columns = ("name", "encoders", "about") if group == "modalities" else ("name", "about")
        for column in columns:
            table.add_column(column)
        for name, entry in registered[group].items():
            about = entry.get("error") or entry["about"]
            about += "" if entry["from"] == "mmalign" else f" [from {entry['from']}]"
            table.add_row(*([name, entry.get("encoders", ""), about] if group == "modalities" else [name, about]))
        console.print(table, "")
    console.print("[bold]recipes[/bold]", ", ".join(registered["recipes"]))


def _as_json(argument: Argument) -> dict[str, Any]:
    default = {} if argument.required else {"default": argument.default}
    return {"type": type_name(argument.kind), **default, "about": argument.about}


def _about(thing: Any) -> str:
    text = getattr(thing, "description", None) or (thing.__doc__ or "")
    return str(text).strip().split("\n")[0]
