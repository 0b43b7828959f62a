"""The command line: parsing, nothing else. Each command is one function in `commands.py` or `table_commands.py`."""

import os
import sys
from collections.abc import Callable, Sequence

from mmalign.errors import BadSample, UserError
from mmalign.safe_io.printable import printable

COMMANDS = {
    "train": "train a model by a recipe: mmalign train image-text [overrides]",
    "evaluate": "evaluate a bundle: retrieval, zero-shot, few-shot, probes and other tasks, with confidence intervals",
    "compare": "compare models on the same queries: paired differences with intervals, Holm's correction",
    "report": "write one HTML file about a run: data, curves, results, galleries, maps, explanations",
    "mine": "find hard negatives of the training records with a trained model, for data.neighbours",
    "tune": "learn prompts for a frozen bundle from a few labelled samples, beside templates and a linear probe",
    "variance": "fit a variance to one tower of a frozen bundle: the larger, the more a sample looks perturbed",
    "export": "export the towers of a bundle as ONNX or torch.export programs, compared with the model",
    "check": "check data before training: unusable records, duplicates, leakage, a sheet of samples",
    "embed": "embed one tower of a data set into a table (Parquet or Arrow)",
    "index": "build an index for approximate search beside a table, with its recall against exact search",
    "bundle": "write the model of a checkpoint as a bundle",
    "classify": "zero-shot classification of files without labels, by prompts; CSV",
    "search": "find the nearest records of an embedded table",
    "explain": "draw which words of one sample correspond to which atoms, patches or beats of another",
    "explore": "open a page on this machine: search a table by typing or dropping samples, with explanations and a map",
    "list": "list modalities, encoders, objectives, sources and recipes, with their arguments",
    "demo": "train and evaluate on the embedded handwritten digits, in about a minute",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows `mmalign`; default: this process's own.

    Returns:
        Exit code: 0 done, 1 the data has bad rows (`check`), 2 a user error, with a message of one line.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = _command(name)(_without_plugins(rest))
        sys.stdout.flush()  # so that a closed pipe is noticed here
        return code
    except (UserError, BadSample) as error:
        print(f"mmalign {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has left: `mmalign list | head -1`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it on exit
        return 0
    except SystemExit as stop:  # rich ends the process on a closed pipe
        if isinstance(stop.__context__, BrokenPipeError):
            return 0
        raise
    except OSError as error:
        if error.errno is None:
            raise
        where = "" if error.filename is None else f"{printable(error.filename)}: "  # a disk that fills names no file
        print(f"mmalign {name}: {where}{error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"mmalign {name}: stopped", file=sys.stderr)
        return 130


def _command(name: str) -> Callable[[list[str]], int]:
    if name in ("-h", "--help", "help"):
        return _print_usage
    if name in ("--version", "version"):
        return _print_version
    if name not in COMMANDS:
        from mmalign.registry import nearest

        if name.startswith("-"):
            raise UserError(f"no such flag{nearest(name, ('--help', '--version'))}; a command comes first")
        raise UserError(f"no such command{nearest(name, COMMANDS)}")
    if name == "list":  # imports less than the others
        from mmalign.cli.listing import list_command

        return list_command
    from mmalign.cli import commands, table_commands

    module = table_commands if hasattr(table_commands, f"{name}_command") else commands
    command: Callable[[list[str]], int] = getattr(module, f"{name}_command")
    return command


def _without_plugins(arguments: list[str]) -> list[str]:
    """Import the files that `--plugin` names, and return the other arguments."""
    rest, files = [], []
    it = iter(arguments)
    for argument in it:
        flag, equals, value = argument.partition("=")
        if flag != "--plugin":
            rest.append(argument)
        elif (file := value if equals else next(it, "")) and not file.startswith("-"):
            files.append(file)
        else:
            raise UserError("--plugin: expected a Python file after it, such as --plugin my_code.py")
    if files:
        from mmalign.plugin import load_plugin

        for file in files:
            load_plugin(file)
    return rest


def _print_usage(_: Sequence[str]) -> int:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    more = (
        "`mmalign COMMAND --help` prints a command's flags, `--help all` every flag, `mmalign --version` the version.\n"
        "Every command takes --plugin FILE.py: your own modalities, objectives, sources and callbacks."
    )
    print(f"usage: mmalign COMMAND ...\n\n{lines}\n\n{more}")
    return 0


def _print_version(_: Sequence[str]) -> int:
    import mmalign

    print(f"mmalign {mmalign.__version__}")
    return 0
