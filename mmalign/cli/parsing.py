"""From the command line of a command to its flags, and to the data set that `--data.*` describes."""

from dataclasses import MISSING
from typing import Any, get_args, get_origin

import jsonargparse
import yaml

from mmalign import bundle
from mmalign.cli.flags import arguments_of_flags
from mmalign.cli.help import asked_for, data_section, show_help
from mmalign.configuration.arguments import Argument
from mmalign.configuration.keys import Section
from mmalign.configuration.overrides import fold_open_dicts
from mmalign.configuration.overrides import parse as parse_flags
from mmalign.data.config import DataConfig

Parsed = Any

SPLIT_KEYS = ("validation", "test", "split_seed", "positives")
"""Data settings that a bundle stores: how its training data were split."""


def parse(name: str, flags: type, arguments: list[str]) -> Parsed:
    """Parse the flags of a command; `--help` prints them and exits.

    Args:
        name: The command.
        flags: The dataclass of its flags.
        arguments: The command line after the command.
    """
    _help(name, flags, arguments, data=False)
    return parse_flags(_parser(name, flags), _switched_on(flags, arguments), arguments_of_flags(flags))


def parse_with_data(name: str, flags: type, arguments: list[str]) -> tuple[Parsed, DataConfig]:
    """Parse the flags of a command and `--data.*`; the data of a bundle's run are the default unless others are named.

    Args:
        name: The command.
        flags: The dataclass of its flags.
        arguments: The command line after the command.

    Returns:
        The flags, and the configuration of the data.
    """
    _help(name, flags, arguments, data=True)
    arguments = _switched_on(flags, arguments)
    parser = _parser(name, flags)
    parser.add_class_arguments(DataConfig, "data")
    keys = arguments_of_flags(flags) | {"data": Argument("data", Section(DataConfig))}
    parsed = parse_flags(parser, fold_open_dicts(arguments, {}), keys)
    if "bundle" in parsed:
        defaults = _run_defaults(parsed.bundle, arguments)
        parser.set_defaults({f"data.{key}": value for key, value in defaults.items()})
        parsed = parse_flags(parser, fold_open_dicts(arguments, {"data": defaults}), keys)
    return parsed, parser.instantiate(parsed).data


def _parser(name: str, flags: type) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        prog=f"mmalign {name}", exit_on_error=False, allow_abbrev=False, add_help=False
    )
    for argument in arguments_of_flags(flags).values():
        if argument.required:
            several = {"type": str, "nargs": "+"} if get_origin(argument.kind) is list else {"type": argument.kind}
            parser.add_argument(argument.name, **several)
        elif argument.default is None and get_origin(argument.kind) is list:
            parser.add_argument(f"--{argument.name}", default=None, nargs="+", type=get_args(argument.kind)[0])
        else:
            kind = argument.kind | None if argument.default is None else argument.kind
            parser.add_argument(f"--{argument.name}", default=argument.default, type=kind)
    return parser


def _switched_on(flags: type, arguments: list[str]) -> list[str]:
    """The command line with `=true` after each flag of type bool that has no value."""
    switches = {f"--{name}" for name, one in arguments_of_flags(flags).items() if one.kind is bool}
    return [
        f"{argument}=true"
        if argument in switches and arguments[i + 1 : i + 2] not in (["true"], ["false"])
        else argument
        for i, argument in enumerate(arguments)
    ]


def _help(name: str, flags: type, arguments: list[str], *, data: bool) -> None:
    wanted = asked_for(arguments)
    if not wanted:
        return
    found = arguments_of_flags(flags).values()
    positional = [Argument(one.name.upper(), one.kind, MISSING, one.about) for one in found if one.required]
    sections = {
        "arguments": positional,
        "flags": [Argument(f"--{one.name}", one.kind, one.default, one.about) for one in found if not one.required],
    }
    usage = " ".join([name, *(one.name for one in positional), "[flags]", *["[--data.*]"] * data])
    if data:
        sections["data"] = data_section(DataConfig, whole=wanted == "all")
    more = f"`mmalign {name} --help all` prints every flag." if data and wanted == "own" else ""
    about = (flags.__doc__ or "").split("\n")[0]
    sections = {title: flags for title, flags in sections.items() if flags}
    show_help(usage, about, sections, whole=wanted == "all", more=more)
    raise SystemExit(0)


def _run_defaults(path: str, arguments: list[str]) -> dict[str, Any]:
    """The data settings to start from: the run's own, or only its split where the user names other data."""
    folder = bundle.find(path)
    split = bundle.provenance(folder).get("split")
    split = {key: split[key] for key in SPLIT_KEYS if key in split} if isinstance(split, dict) else {}
    config = folder.parent / "config.yaml"
    named = any(a.split("=")[0] in ("--data.source", "--data.manifest", "--data.files") for a in arguments)
    if named or not config.is_file():
        return split
    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        return split  # a file that is not a run's, beside the bundle
    return {**settings, "batch_size": 256} if isinstance(settings, dict) else split
