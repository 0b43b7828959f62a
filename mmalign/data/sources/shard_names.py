"""Names of tar shards: a folder, or a pattern with braces."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path, PurePath

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError

_MAX_SHARDS = 100_000


def is_address(name: str) -> bool:
    """Whether a name is an address or a command, such as `https://...` or `pipe:...`, and no path.

    Example:
        >>> is_address("s3://bucket/a.tar"), is_address("C:/a.tar"), is_address("a.tar")
        (True, False, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+:", name, re.IGNORECASE) is not None


def shard_pattern(config: SourceConfig) -> str:
    """The pattern of the shards that a source reads.

    Raises:
        UserError: none is set.
    """
    if not config.manifest:
        raise UserError("source 'webdataset' needs shards: --data.manifest 'train-{000..031}.tar'")
    return config.manifest


def shard_paths(pattern: str) -> list[Path]:
    """The local shards of a pattern, in order.

    Raises:
        UserError: a remote address or a command, or a missing shard.
    """
    if is_address(pattern):
        raise UserError(f"{pattern}: expected local tar shards; --data.stream true reads addresses")
    folder = Path(pattern).expanduser()
    if folder.is_dir():
        paths = sorted(path for path in folder.iterdir() if re.search(r"\.(tar|tgz|tar\.\w+)$", path.name))
    else:
        paths = [Path(name).expanduser() for name in expand_braces(pattern)]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        what = f"no such file: {missing[0]}" if missing else "a folder without .tar files"
        raise UserError(f"{pattern}: expected tar shards, got {what}")
    return paths


def expand_braces(pattern: str) -> list[str]:
    """Expand a brace pattern into all names.

    Raises:
        UserError: more than a hundred thousand names, or an unmatched brace.

    Example:
        >>> expand_braces("s-{08..10}-{a,b}.tar")[:3]
        ['s-08-a.tar', 's-08-b.tar', 's-09-a.tar']
    """
    pieces = re.split(r"\{([^{}]*)\}", pattern)
    if any("{" in piece or "}" in piece for piece in pieces):
        raise UserError(f"{pattern}: an unmatched brace")
    choices: list[Sequence[str]] = []
    for index, piece in enumerate(pieces):
        bounds = re.fullmatch(r"(\d+)\.\.(\d+)", piece) if index % 2 else None
        if bounds:
            low, high = bounds.groups()
            if int(high) - int(low) >= _MAX_SHARDS:
                raise UserError(f"{pattern}: more than {_MAX_SHARDS} shards")
            choices.append([str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)])
        else:
            choices.append(piece.split(",") if index % 2 else [piece])
    names = ["".join(parts) for parts in islice(product(*choices), _MAX_SHARDS + 1)]
    if len(names) > _MAX_SHARDS:
        raise UserError(f"{pattern}: more than {_MAX_SHARDS} shards")
    return names


def short_names(paths: Sequence[str]) -> list[str]:
    """The name of each shard without its folder; the whole path where several have one name."""
    files = [PurePath(path).name for path in paths]
    times = Counter(files)
    return [file if times[file] == 1 else path for file, path in zip(files, paths, strict=True)]
