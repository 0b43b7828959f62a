"""A folder as a table: one row per file, with its class folder, its split, its text file and its metadata."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from mmalign.data.sources.rows import Row, Table
from mmalign.errors import UserError

MAX_FILES = 10**7
MAX_TEXT = 1 << 20
"""Maximum size of a text file, in bytes."""

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SPLITS = {
    "train": "train", "training": "train", "valid": "validation", "val": "validation", "validation": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""Name of a folder -> split."""

NAMES = ("file", "text", "label", "split")


def read_folder(path: Path, read_table: Callable[[Path], Table]) -> Table:
    """A table of the files in a folder, by these layouts, which may be combined:

    - `dog/1.png`, `cat/2.png`: the folder is the `label`.
    - `train/dog/1.png`, `test/cat/2.png`: the outer folder is the `split`.
    - `1.png` beside `1.txt`: the content of the text file is the `text`.
    - `metadata.csv`, `.jsonl` or `.parquet` with a column `file_name` (Hugging Face `imagefolder`), in the folder or in
      the folder of a split: its other columns are columns of the table, and only its files are rows.

    Args:
        path: The folder. Hidden files, and folders behind links, are left out.
        read_table: Reads a metadata file.

    Returns:
        A table with the column `file`, relative to the folder, and those of `text`, `label` and `split` that occur.

    Raises:
        UserError: there is no file, or there are too many; a metadata file lacks `file_name`.
    """
    files = sorted(_files(path))
    metadata = [name for name in files if PurePosixPath(name).name in METADATA]
    rows = list(_described(path, metadata, read_table)) if metadata else list(_found(path, files))
    if not rows:
        raise UserError(f"{path}: expected a folder with files, or one with a table metadata.csv, got none")
    present = dict.fromkeys(column for row in rows for column, value in row.cells.items() if value is not None)
    columns = [*(name for name in NAMES if name in present), *(name for name in present if name not in NAMES)]

    def chosen(wanted: Sequence[str]) -> Iterator[Row]:
        for row in rows:
            yield Row(row.where, {name: row.cells.get(name) for name in wanted}, row.problem)

    return Table(columns, chosen)


def _files(path: Path) -> Iterator[str]:
    count = 0
    for folder, below, names in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        inside = Path(folder).relative_to(path).as_posix()
        for name in names:
            if not name.startswith("."):
                count += 1
                if count > MAX_FILES:
                    raise UserError(f"{path}: expected at most {MAX_FILES} files; write a table of them")
                yield name if inside == "." else f"{inside}/{name}"


def _found(path: Path, files: Sequence[str]) -> Iterator[Row]:
    """Rows of the files themselves: a text file beside another file is that file's text."""
    for _, group in groupby(sorted(files, key=_stem), key=_stem):
        names = list(group)
        others = [name for name in names if not name.lower().endswith(".txt")]
        texts = [name for name in names if name.lower().endswith(".txt")]
        text, problem = _text(path, texts[0]) if texts and others else (None, "")
        for name in others or texts:
            yield Row(name, {"file": name, "text": text, **_folders(name)}, problem)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if "." in PurePosixPath(name).name else name


def _folders(name: str) -> dict[str, str | None]:
    """Split and label by the folders of a file: the outermost one may be a split, the innermost other one is the label.

    Example:
        >>> _folders("train/dog/1.png"), _folders("dog/1.png"), _folders("1.png")
        ({'split': 'train', 'label': 'dog'}, {'split': None, 'label': 'dog'}, {'split': None, 'label': None})
    """
    folders = name.split("/")[:-1]
    split = SPLITS.get(folders[0].lower()) if folders else None
    inner = folders[1:] if split else folders
    return {"split": split, "label": inner[-1] if inner else None}


def _text(path: Path, name: str) -> tuple[str | None, str]:
    """Content of a text file, and why it cannot be read."""
    file = path / name
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
        return None, f"expected a text file inside {path.name}, got a link or another thing: {name}"
    with file.open("rb") as stream:
        data = stream.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        return None, f"expected a text file of at most {MAX_TEXT} bytes, got more: {name}"
    try:
        return data.decode("utf-8-sig").strip(), ""
    except UnicodeDecodeError as error:
        return None, f"expected UTF-8 in {name}, got the byte 0x{data[error.start]:02x}"


def _described(path: Path, metadata: Sequence[str], read_table: Callable[[Path], Table]) -> Iterator[Row]:
    """Rows of the tables `metadata.*`."""
    for name in metadata:
        folder, table = str(PurePosixPath(name).parent), read_table(path / name)
        if "file_name" not in table.columns:
            raise UserError(f"{path / name}: expected a column file_name, got {', '.join(table.columns)}")
        for row in table.rows(table.columns):
            cells: dict[str, Any] = {column: cell for column, cell in row.cells.items() if column != "file_name"}
            file = row.cells.get("file_name")
            where, problem = f"{folder}/{row.where}" if folder != "." else row.where, row.problem
            if not problem and not (isinstance(file, str) and file.strip()):
                problem = "expected the name of a file in column 'file_name', got none"
            full = None if problem else file if folder == "." else f"{folder}/{file}"
            yield Row(where, {} if problem else {"file": full, **_folders(str(full)), **cells}, problem)
