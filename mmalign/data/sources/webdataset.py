"""The source `webdataset`: tar shards whose members of one key are one row (`a.jpg`, `a.txt`, `a.json`)."""

import hashlib
import json
import re
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

from mmalign.data.files.archives import TarStore
from mmalign.data.files.store import file_sha256
from mmalign.data.sources.base import RESERVED, Record, Rejected, Source, SourceConfig
from mmalign.data.sources.cells import alternatives, labels_of
from mmalign.data.sources.manifest import max_file_bytes
from mmalign.errors import BadSample, MissingFile, UserError
from mmalign.registry import nearest

_MAX_SHARDS = 100_000


class WebdatasetSource(Source):
    """Local tar shards in the webdataset layout, with random access by an index of offsets.

    `manifest` is one tar, a folder of tars or a brace pattern such as `train-{000..031}.tar`. A column is an
    extension (`jpg`, or several to try: `jpg;png`), or a key of the JSON member: `json:caption`. `id`, `group`,
    `label` and `split` default to the JSON's keys of these names, `label` also to the extension `cls`.

    Options: `max_file_mb`, the maximum size of a member (default 1024).

    Raises:
        UserError: no such shard, or no row has the extension of a column.
    """

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        if not config.manifest:
            raise UserError("source 'webdataset' needs shards: --data.manifest 'train-{000..031}.tar'")
        max_bytes = max_file_bytes(config)
        paths = shard_paths(config.manifest)
        self._shards = {_short(path, paths): TarStore(path, max_bytes=max_bytes) for path in paths}
        self._columns = {**{name: f"json:{name}" for name in RESERVED}, **config.columns}
        rows = [(shard, key, parts) for shard, store in self._shards.items() for key, parts in _grouped(store)]
        _check_columns(config, rows)
        self._records = [self._record(*row) for row in rows]

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> bytes:
        shard, _, member = name.partition("!")
        if shard not in self._shards:
            raise MissingFile(name, "a member as shard.tar!name", "no such shard")
        return self._shards[shard].fetch(member)

    def fingerprint(self) -> str:
        parts = [f"{name} {file_sha256(store.path)}" for name, store in self._shards.items()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _record(self, shard: str, key: str, parts: dict[str, str]) -> Record:
        row, name, problem = f"{shard}!{key}", f"{shard}/{key}", None
        values, reserved = {}, {}
        try:
            cells = self._json(shard, parts) if any(v.startswith("json:") for v in self._columns.values()) else {}
        except BadSample as error:
            cells, problem = {}, Rejected(row, name, "", error.source, f"expected {error.expected}, got {error.came}")
        for tower, column in self._columns.items():
            try:
                if tower in RESERVED:
                    reserved[tower] = self._cell(shard, parts, cells, column, value_is_sample=True)
                elif alternatives := self._values(shard, parts, cells, tower, column):
                    values[tower] = alternatives
            except BadSample as error:
                reason = f"expected {error.expected}, got {error.came}"
                problem = problem or Rejected(row, name, tower, error.source, reason, "bad sample")
        label = reserved.get("label")
        if label is None and "label" not in self.config.columns and "cls" in parts:
            label = self._text(shard, parts["cls"])
        chosen = {name: (labels_of(reserved.get(name)) or (None,))[0] for name in ("id", "group", "split")}
        return Record(
            id=chosen["id"] or name,
            location=row,
            values=values,
            group=chosen["group"],
            labels=labels_of(label, self.config.separator),
            split=chosen["split"],
            problem=problem,
        )

    def _values(self, shard: str, parts: dict[str, str], cells: dict[str, Any], tower: str, column: str) -> Any:
        value_is_sample = self.config.towers.get(tower, False)
        cell = self._cell(shard, parts, cells, column, value_is_sample=value_is_sample)
        separated = value_is_sample and self.config.separable.get(tower, True)
        return alternatives(cell, self.config.separator if separated else None)

    def _cell(
        self, shard: str, parts: dict[str, str], cells: dict[str, Any], column: str, *, value_is_sample: bool
    ) -> Any:
        """The value of a column: from the JSON, the text of a member (value_is_sample), or the name to fetch it by."""
        if column.startswith("json:"):
            return cells.get(column.removeprefix("json:"))
        member = next((parts[extension] for extension in column.split(";") if extension in parts), None)
        if member is None:
            return None
        return self._text(shard, member) if value_is_sample else f"{shard}!{member}"

    def _json(self, shard: str, parts: dict[str, str]) -> dict[str, Any]:
        if "json" not in parts:
            return {}
        try:
            cells = json.loads(self._shards[shard].fetch(parts["json"]))
        except (ValueError, RecursionError) as error:
            raise BadSample(f"{shard}!{parts['json']}", "a JSON object", f"an error: {error}") from error
        if not isinstance(cells, dict):
            raise BadSample(f"{shard}!{parts['json']}", "a JSON object", f"a {type(cells).__name__}")
        return cells

    def _text(self, shard: str, member: str) -> str:
        data = self._shards[shard].fetch(member)
        try:
            return data.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise BadSample(f"{shard}!{member}", "UTF-8", f"the byte 0x{data[error.start]:02x}") from error


def shard_paths(pattern: str) -> list[Path]:
    """The local shards of a pattern, in order.

    Raises:
        UserError: a remote address or a command, or a missing shard.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:", pattern, re.IGNORECASE):
        raise UserError(f"{pattern}: expected local tar shards; fetch them first, no address or command is opened")
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


def _grouped(store: TarStore) -> list[tuple[str, dict[str, str]]]:
    # The key is the member's folder and its name up to the first dot; the rest is the extension.
    groups: dict[str, dict[str, str]] = {}
    for member in store.names():
        folder, slash, base = member.rpartition("/")
        stem, _, extension = base.partition(".")
        if stem:
            groups.setdefault(folder + slash + stem, {})[extension.lower()] = member
    return list(groups.items())


def _check_columns(config: SourceConfig, rows: Sequence[tuple[str, str, dict[str, str]]]) -> None:
    there = sorted({extension for _, _, parts in rows for extension in parts})
    if not set(config.columns) - set(RESERVED):
        towers = " and ".join(f"--data.columns.{tower} EXTENSION" for tower in config.towers or ["TOWER"])
        raise UserError(f"{config.manifest}: which members are the samples? set {towers} (there: {', '.join(there)})")
    for tower, column in config.columns.items():
        wanted = ["json"] if column.startswith("json:") else column.split(";")
        if not set(wanted) & set(there):
            raise UserError(
                f"{config.manifest}: no member ends in .{wanted[0]}{nearest(wanted[0], there)}; "
                f"set --data.columns.{tower}"
            )


def _short(path: Path, paths: Sequence[Path]) -> str:
    return path.name if [other.name for other in paths].count(path.name) == 1 else path.as_posix()
