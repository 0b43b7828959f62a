"""The sample of a query: what a person typed, or the files that they dropped."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmalign.errors import BadSample, UserError
from mmalign.exploring.limits import Limits
from mmalign.modality import Modality
from mmalign.searching.samples import is_sample


@dataclass(frozen=True)
class Dropped:
    """A dropped file.

    Args:
        path: Where the upload lies.
        name: Its name on the person's side.
    """

    path: Path
    name: str


def typed_sample(modality: Modality, text: str, limits: Limits) -> Any:
    """The sample that a string is.

    A string that names a file is refused: a page must not open files of this machine.

    Args:
        modality: Modality of the query's tower.
        text: The typed text.
        limits: Maximum length.

    Raises:
        BadSample: it is too long, names a file, or cannot be read.
        UserError: strings are no samples of this modality.
    """
    if not modality.value_is_sample:
        raise UserError(f"expected a file of the modality {modality.name} ({modality.description}); drop one")
    if len(text) > limits.characters:
        raise BadSample("query", f"at most {limits.characters:,} characters", f"{len(text):,}")
    if not is_sample(modality, text):
        raise BadSample("query", "the sample itself, or a dropped file", f"the name of a file, {text[-80:]!r}")
    return modality.read(text)


def dropped_sample(modality: Modality, files: Sequence[Dropped], limits: Limits) -> Any:
    """The sample in dropped files: one file, or all files of one record beside each other.

    Where strings are samples and the file has none of the modality's endings, its text is the sample.

    Args:
        modality: Modality of the query's tower.
        files: The uploads.
        limits: Maximum number and size.

    Raises:
        BadSample: too many or too large files, or they cannot be read; messages have names, not paths.
    """
    if not files or len(files) > limits.files:
        raise BadSample("query", f"1 to {limits.files} files of one sample", f"{len(files)}")
    size = sum(file.path.stat().st_size for file in files)
    if size > limits.upload_bytes:
        raise BadSample(files[0].name, f"at most {limits.upload_mb:g} MB (--upload_mb)", f"{size / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory(prefix="mmalign-query-") as name:
        folder = Path(name)
        paths = [folder / _plain_name(file.name) for file in files]
        if len(set(paths)) < len(paths):
            raise BadSample("query", "files of different names", "two of one name")
        for file, path in zip(files, paths, strict=True):
            shutil.copyfile(file.path, path)
        path = _principal(modality, paths)
        try:
            if modality.value_is_sample and not path.name.lower().endswith(modality.file_suffixes):
                return typed_sample(modality, _text(path, limits), limits)
            return modality.read(path)
        except BadSample as error:
            hidden = [str(one).replace(f"{folder}/", "") for one in (error.source, error.expected, error.came)]
            raise BadSample(*hidden) from error


def _principal(modality: Modality, paths: Sequence[Path]) -> Path:
    """Of several files, the one that may be named without its ending, such as the header of a record."""
    if len(paths) == 1:
        return paths[0]
    heads = [path for path in paths if path.suffix.lower() in modality.bare_suffixes]
    if len(heads) != 1:
        several = f", or the files of one record with one {' or '.join(modality.bare_suffixes)}"
        raise BadSample("query", f"one file{several * bool(modality.bare_suffixes)}", f"{len(paths)} files")
    return heads[0]


def _plain_name(name: str) -> str:
    """The last part of a name, without what could make it a folder, hidden, or too long."""
    plain = Path(name.replace("\\", "/")).name.lstrip(".").replace("\0", "")
    stem, dot, suffix = plain.rpartition(".")
    return (f"{stem[:100]}{dot}{suffix[:20]}" if dot else plain[:100]) or "file"


def _text(path: Path, limits: Limits) -> str:
    with path.open("rb") as file:
        data = file.read(4 * limits.characters + 1)
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        if len(data) > 4 * limits.characters:
            raise BadSample(path.name, f"at most {limits.characters:,} characters", "more") from error
        raise BadSample(path.name, "a text in UTF-8", "other bytes") from error
