"""Bytes by key in one SQLite file: the cache on disk (`data.cache`)."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmalign.errors import UserError

FILE = "samples.sqlite"
MAX_BYTES = 1 << 29
"""Larger values are not cached."""


class DiskCache:
    """Values by key in one SQLite file, which several threads and processes may use at once.

    Args:
        folder: Folder of the file; created if missing.

    Raises:
        UserError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> cache = DiskCache(Path(tempfile.mkdtemp()))
        >>> cache.put("key", b"value")
        >>> cache.get("key"), cache.get("other")
        (b'value', None)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local, self._owner = threading.local(), os.getpid()
        with _errors_of(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._connection()

    def get(self, key: str) -> bytes | None:
        """The value of a key; None if there is none."""
        with _errors_of(self.folder):
            row = self._connection().execute("SELECT value FROM samples WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def has(self, key: str) -> bool:
        """Whether a key has a value."""
        with _errors_of(self.folder):
            return self._connection().execute("SELECT 1 FROM samples WHERE key = ?", (key,)).fetchone() is not None

    def put(self, key: str, value: bytes) -> None:
        """Store a value, in place of an earlier one."""
        if len(value) <= MAX_BYTES:
            with _errors_of(self.folder), self._connection() as connection:
                connection.execute("INSERT OR REPLACE INTO samples VALUES (?, ?)", (key, value))

    def remove(self, key: str) -> None:
        """Forget a value."""
        with _errors_of(self.folder), self._connection() as connection:
            connection.execute("DELETE FROM samples WHERE key = ?", (key,))

    def _connection(self) -> sqlite3.Connection:
        """A connection of this thread and process: SQLite's may be shared by neither."""
        if os.getpid() != self._owner:  # a forked worker
            self._local, self._owner = threading.local(), os.getpid()
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.folder / FILE, timeout=60.0)
            # Not flushed at each write: values carry checksums, and the file may be deleted at any time.
            connection.execute("PRAGMA synchronous = OFF")
            with connection:
                connection.execute("CREATE TABLE IF NOT EXISTS samples (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
            self._local.connection = connection
        return connection

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        self._local, self._owner = threading.local(), os.getpid()


@contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    """Turn an error of the file into one sentence."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UserError(f"--data.cache: expected a folder that can be written, got {folder} ({error})") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite quotes damaged bytes in its messages
        raise UserError(
            f"--data.cache: expected a cache of mmalign in {folder / FILE}, got a damaged file ({error}); "
            "delete it; it is written again"
        ) from error
    except OSError as error:
        raise UserError(f"--data.cache: expected a folder that can be written, got {folder} ({error})") from error
