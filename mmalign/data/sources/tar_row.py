"""One row of a shard in the webdataset layout: the members of one key, as a record."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mmalign.data.sources.base import RESERVED, Record, Rejected, SourceConfig
from mmalign.data.sources.cells import alternatives, labels_of
from mmalign.errors import BadSample, UserError
from mmalign.registry import nearest


@dataclass(frozen=True)
class Members:
    """The members of one key.

    Args:
        shard: Name of the shard.
        key: Their folder and their name up to the first dot.
        parts: Extension -> name of the member.
        fetch: Reads a member by its name; raises BadSample.
    """

    shard: str
    key: str
    parts: Mapping[str, str]
    fetch: Callable[[str], bytes]

    def text(self, member: str) -> str:
        """A member as text.

        Raises:
            BadSample: it cannot be read, or is not UTF-8.
        """
        data = self.fetch(member)
        try:
            return data.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise BadSample(f"{self.shard}!{member}", "UTF-8", f"the byte 0x{data[error.start]:02x}") from error

    def json(self) -> dict[str, Any]:
        """The JSON member, {} if there is none.

        Raises:
            BadSample: it cannot be read, or is not a JSON object.
        """
        if "json" not in self.parts:
            return {}
        where = f"{self.shard}!{self.parts['json']}"
        try:
            cells = json.loads(self.fetch(self.parts["json"]))
        except (ValueError, RecursionError) as error:
            raise BadSample(where, "a JSON object", f"an error: {error}") from error
        if not isinstance(cells, dict):
            raise BadSample(where, "a JSON object", f"a {type(cells).__name__}")
        return cells


class TarRow:
    """Makes a record from the members of one key.

    Args:
        config: Columns: an extension (`jpg`, or several to try: `jpg;png`), or a key of the JSON member.
        inline: Records contain the bytes of their files, instead of names to fetch them by.
    """

    def __init__(self, config: SourceConfig, *, inline: bool = False) -> None:
        self.config, self.inline = config, inline
        self._columns = {**{name: f"json:{name}" for name in RESERVED}, **config.columns}

    @property
    def extensions(self) -> frozenset[str]:
        """The extensions of the members that a record is made from."""
        named = {part for column in self._columns.values() for part in column.split(";")}
        return frozenset({*(part for part in named if not part.startswith("json:")), "json", "cls"})

    def record(self, members: Members) -> Record:
        """The record of a key; what cannot be read is its problem."""
        row, name, problem = f"{members.shard}!{members.key}", f"{members.shard}/{members.key}", None
        values, reserved, cells = {}, {}, {}
        try:
            cells = members.json()
        except BadSample as error:
            problem = Rejected(row, name, "", error.source, f"expected {error.expected}, got {error.came}")
        for tower, column in self._columns.items():
            try:
                if tower in RESERVED:
                    reserved[tower] = self._cell(members, cells, column, value_is_sample=True)
                elif found := self._values(members, cells, tower, column):
                    values[tower] = found
                if tower == "label" and reserved[tower] is None and tower not in self.config.columns:
                    reserved[tower] = members.text(members.parts["cls"]) if "cls" in members.parts else None
            except BadSample as error:
                reason = f"expected {error.expected}, got {error.came}"
                problem = problem or Rejected(row, name, tower, error.source, reason, "bad sample")
        chosen = {name: (labels_of(reserved.get(name)) or (None,))[0] for name in ("id", "group", "split")}
        return Record(
            id=chosen["id"] or name,
            location=row,
            values=values,
            group=chosen["group"],
            labels=labels_of(reserved.get("label"), self.config.separator),
            split=chosen["split"],
            problem=problem,
        )

    def _values(self, members: Members, cells: Mapping[str, Any], tower: str, column: str) -> Any:
        value_is_sample = self.config.towers.get(tower, False)
        cell = self._cell(members, cells, column, value_is_sample=value_is_sample)
        separated = value_is_sample and self.config.separable.get(tower, True)
        return alternatives(cell, self.config.separator if separated else None)

    def _cell(self, members: Members, cells: Mapping[str, Any], column: str, *, value_is_sample: bool) -> Any:
        """The value of a column: from the JSON, the text of a member, or a file by its name or content."""
        if column.startswith("json:"):
            return cells.get(column.removeprefix("json:"))
        parts = members.parts
        member = next((parts[extension] for extension in column.split(";") if extension in parts), None)
        if member is None:
            return None
        if value_is_sample:
            return members.text(member)
        return members.fetch(member) if self.inline else f"{members.shard}!{member}"


def key_and_extension(member: str) -> tuple[str, str]:
    """Key and extension of a member: its folder and its name up to the first dot, and the rest in lower case.

    Example:
        >>> key_and_extension("a.b/c.d.JPG")
        ('a.b/c', 'd.jpg')
    """
    folder, slash, base = member.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem if stem else "", extension.lower())


def check_columns(config: SourceConfig, extensions: Collection[str]) -> None:
    """Check that each column is an extension of some member.

    Args:
        config: The columns.
        extensions: Extensions of all members that were seen.

    Raises:
        UserError: no tower has a column, or no member has the extension of one.
    """
    there = sorted(extensions)
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
