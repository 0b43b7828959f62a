"""The command line of a run without the folders of this machine, for bundles, which are shared."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

_START = r"(?:~?/(?!/)|[A-Za-z]:[\\/])"
_QUOTED = re.compile(rf"""(?P<quote>["'])(?P<path>{_START}[^"']*)(?=["'])""")
_PLAIN = re.compile(rf"""(?P<quote>^|[\s\[{{(,=])(?P<path>{_START}[^\s"',\]}})]*)""")


def without_folders(arguments: Sequence[str]) -> list[str]:
    """The arguments with only the last part of each absolute path, also inside of a dictionary or list.

    Example:
        >>> without_folders(["--data.files=/home/me/pictures.zip", '--model.towers.a={"weights": "/home/me/run 1"}'])
        ['--data.files=pictures.zip', '--model.towers.a={"weights": "run 1"}']
        >>> without_folders(["--data.citation=see https://example.org/a, 1/2", "data/pairs.csv"])
        ['--data.citation=see https://example.org/a, 1/2', 'data/pairs.csv']
    """
    cleaned = []
    for argument in arguments:
        key, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        if os.path.isabs(value) or value.startswith("~"):
            value = Path(value).name
        else:
            value = _PLAIN.sub(_last_part, _QUOTED.sub(_last_part, value))
        cleaned.append(f"{key}{equals}{value}")
    return cleaned


def _last_part(path: re.Match[str]) -> str:
    return path["quote"] + re.split(r"[/\\]", path["path"].rstrip("/\\"))[-1]
