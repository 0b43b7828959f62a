"""Inputs of the fuzzer: files or a value in memory, and what is fuzzed with them."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


class Nonsense(AssertionError):
    """An input was accepted and gave a value that no caller can use: NaN, another type or shape."""


@dataclass(frozen=True)
class Case:
    """One input.

    Args:
        files: Name -> bytes of the files in the case's folder.
        entry: The name that the reader opens; "" where the input is `value`.
        value: An input in memory.
        as_bytes: The reader gets the bytes of the entry instead of its path.
        links: Name -> "pipe", "folder" or "link": other things than files, at these names.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    entry: str = ""
    value: Any = None
    as_bytes: bool = False
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of bytes, by which the smallest reproducer is found."""
        return sum(map(len, self.files.values())) if self.entry else len(pickle.dumps(self.value))

    def write(self, folder: Path) -> Any:
        """Write the files into a folder; returns what the reader takes."""
        if not self.entry:
            return self.value
        import os

        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for name, kind in self.links.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if kind == "pipe":
                os.mkfifo(path)
            elif kind == "folder":
                path.mkdir()
            else:
                path.symlink_to("/etc/hostname")
        if self.as_bytes and self.entry in self.files:
            return self.files[self.entry]
        return folder / self.entry

    def changed(self, **changes: Any) -> "Case":
        """A copy with other fields."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Args:
        name: Kind and registered name, such as `reader ecg`.
        seeds: Name -> valid input; each is mutated.
        use: Reads an input, as `Case.write` returns it, and checks what comes out. It may raise `UserError` or
            `BadSample`; anything else is a fault.
        cost: Weight in the number of cases: 1 for inputs of milliseconds, less for slow ones.
        takes_bytes: Whether the content of a file is an input too, and not only its path.
    """

    name: str
    seeds: Mapping[str, Case]
    use: Callable[[Any], None]
    cost: float = 1.0
    takes_bytes: bool = False
