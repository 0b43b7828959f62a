"""From the command line of a command to its flags, and to the data set that `--data.*` describes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

import jsonargparse

from mmalign.bundles import bundle
from mmalign.cli.flags import arguments_of_flags, flag_sections
from mmalign.cli.help import asked_for, data_section, show_help
from mmalign.configuration.arguments import Argument
from mmalign.configuration.keys import Section
from mmalign.configuration.overrides import fold_open_dicts, pairs_of
from mmalign.configuration.overrides import parse as parse_flags
from mmalign.data.config import DataConfig
from mmalign.data.sources.tables import read_table
from mmalign.errors import UserError
from mmalign.evaluation.report.rows import SUFFIXES
from mmalign.run_folder import data_settings

Parsed = Any

SPLIT_KEYS = ("validation", "test", "split_seed", "positives")
"""Data settings that a bundle stores: how its training data were split."""


def long_name(argument: str) -> str:
    """`--out` for `-o`; any other argument as it is."""
    return "--out" if argument == "-o" else argument


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
        parsed = _with_run_defaults(parser, keys, parsed.bundle, arguments)
    return parsed, parser.instantiate(parsed).data


def parse_with_data_of_each(name: str, flags: type, arguments: list[str]) -> tuple[Parsed, list[DataConfig | None]]:
    """As `parse_with_data`, for several models: the data of each model's run are its default.

    Args:
        name: The command.
        flags: The dataclass of its flags, with the positional argument `models`.
        arguments: The command line after the command.

    Returns:
        The flags, and the configuration of the data of each model; None for a file of rows.
    """
    _help(name, flags, arguments, data=True)
    arguments = _switched_on(flags, arguments)
    keys = arguments_of_flags(flags) | {"data": Argument("data", Section(DataConfig))}

    def parser() -> jsonargparse.ArgumentParser:
        fresh = _parser(name, flags)
        fresh.add_class_arguments(DataConfig, "data")
        return fresh

    parsed = parse_flags(parser(), fold_open_dicts(arguments, {}), keys)
    configs: list[DataConfig | None] = []
    for path in parsed.models:
        if Path(path).suffix.lower() in SUFFIXES:
            configs.append(None)
            continue
        own = parser()
        configs.append(own.instantiate(_with_run_defaults(own, keys, path, arguments)).data)
    return parsed, configs


def _with_run_defaults(
    parser: jsonargparse.ArgumentParser, keys: dict[str, Argument], path: str, arguments: list[str]
) -> Parsed:
    """Parse with the data settings of the run at `path` as defaults."""
    defaults = _run_defaults(path, arguments)
    parser.set_defaults({f"data.{key}": value for key, value in defaults.items()})
    return parse_flags(parser, fold_open_dicts(arguments, {"data": defaults}), keys)


def given_settings(flags: Parsed, arguments: list[str]) -> dict[str, Any]:
    """The settings of a task that the command line names, as keyword arguments of `mmalign.evaluate`.

    Only these: a task refuses a setting of another task, also where it equals the default.

    Args:
        flags: The parsed flags of `mmalign evaluate`.
        arguments: The command line.
    """
    from mmalign.evaluation.registry import flags as settings

    names = {argument.partition("=")[0].removeprefix("--") for argument in arguments if argument.startswith("--")}
    return {name: flags[name] for name in settings() if name in names}


def _parser(name: str, flags: type) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        prog=f"mmalign {name}", exit_on_error=False, allow_abbrev=False, add_help=False
    )
    for argument in arguments_of_flags(flags).values():
        if argument.required:
            several = {"type": str, "nargs": "+"} if get_origin(argument.kind) is list else {"type": argument.kind}
            parser.add_argument(argument.name, **several)
        elif argument.default is None and (items := _items_of(argument.kind)):
            parser.add_argument(f"--{argument.name}", default=None, nargs="+", type=items)
        else:
            kind = argument.kind | None if argument.default is None else argument.kind
            parser.add_argument(f"--{argument.name}", default=argument.default, type=kind)
    return parser


def _items_of(kind: Any) -> Any:
    """The type of the items of a list, or of a list or null; None for other types."""
    return next((get_args(one)[0] for one in (kind, *get_args(kind)) if get_origin(one) is list), None)


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
    positional = [
        replace(argument, name=argument.name.upper())
        for argument in arguments_of_flags(flags).values()
        if argument.required
    ]
    sections = {"arguments": positional} if positional else {}
    for title, group in flag_sections(flags, _task_in(arguments)).items():
        sections[title] = [replace(argument, name=f"--{argument.name}") for argument in group]
    usage = " ".join([name, *(one.name for one in positional), "[flags]", *["[--data.*]"] * data])
    if data:
        sections["data"] = data_section(DataConfig, whole=wanted == "all")
    more = f"`mmalign {name} --help all` prints every flag." if data and wanted == "own" else ""
    about = (flags.__doc__ or "").split("\n")[0]
    show_help(usage, about, sections, whole=wanted == "all", more=more)
    raise SystemExit(0)


def _task_in(arguments: list[str]) -> str:
    """The value of `--task` in a command line whose help is printed; "" = none."""
    for index, argument in enumerate(arguments):
        if argument == "--task" and arguments[index + 1 : index + 2] and not arguments[index + 1].startswith("-"):
            return arguments[index + 1]
        if argument.startswith("--task="):
            return argument.removeprefix("--task=")
    return ""


def _run_defaults(path: str, arguments: list[str]) -> dict[str, Any]:
    """The data settings to start from: the run's own, or where the user names other data, its split and columns."""
    folder = bundle.find(path)
    split = bundle.provenance(folder).get("split")
    split = {key: split[key] for key in SPLIT_KEYS if key in split} if isinstance(split, dict) else {}
    named = any(a.split("=")[0] in ("--data.source", "--data.manifest", "--data.files") for a in arguments)
    if named:
        return split | _shared_columns(folder.parent, arguments)
    settings = data_settings(folder.parent)
    return split if settings is None else {**settings, "batch_size": 256}


def _shared_columns(run: Path, arguments: list[str]) -> dict[str, Any]:
    """The run's columns that another table has too, and its separator; nothing for other sources than tables."""
    given = dict(pairs_of(arguments))
    table = given.get("data.manifest")
    if not table or (given.get("data.source") or "manifest") != "manifest" or "data.columns" in given:
        return {}
    try:
        settings, there = data_settings(run) or {}, read_table(Path(table).expanduser()).columns
    except UserError:  # of a run of another version; or of the table, which opening the data reports
        return {}
    columns = settings.get("columns") or {} if settings.get("source") == "manifest" else {}
    shared = {name: column for name, column in columns.items() if column in there}
    new = {name: column for name, column in shared.items() if f"data.columns.{name}" not in given}
    if not new:
        return {}
    print(f"columns as in the run: {', '.join(f'{name} {column}' for name, column in new.items())}", flush=True)
    return {"columns": shared} | {key: settings[key] for key in ("separator",) if settings.get(key) is not None}
