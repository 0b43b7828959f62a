"""Open a folder, a tar or a zip as a store of files."""

from pathlib import Path

from mmalign.data.files.folder import FolderStore
from mmalign.data.files.store import MAX_BYTES, FileStore
from mmalign.errors import UserError


def open_store(path: str | Path, *, max_bytes: int = MAX_BYTES) -> FileStore:
    """The store over a folder, a tar (plain, or compressed by gzip, bzip2 or xz) or a zip, recognised by content.

    Raises:
        UserError: there is no such file, or it is none of these.
    """
    from mmalign.data.files.archives import TarStore, ZipStore

    path = Path(path).expanduser()
    if path.is_dir():
        return FolderStore(path, max_bytes=max_bytes)
    if not path.is_file():
        raise UserError(f"{path}: expected a folder, tar or zip, got no such file; set --data.files")
    with path.open("rb") as file:
        is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return ZipStore(path, max_bytes=max_bytes) if is_zip else TarStore(path, max_bytes=max_bytes)
