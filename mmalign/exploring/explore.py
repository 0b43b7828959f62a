"""`mmalign.explore`: open a model and a table, and serve the page."""

import logging
from pathlib import Path

from mmalign.bundles import bundle
from mmalign.data.config import DataConfig
from mmalign.embedding.embed_tower import embed
from mmalign.embedding.table import EmbeddingTable
from mmalign.errors import UserError
from mmalign.exploring.limits import Limits
from mmalign.exploring.server import Explorer
from mmalign.exploring.session import Session
from mmalign.model import Aligner
from mmalign.searching.samples import TableSamples, is_sample
from mmalign.selection import model_of

_LOG = logging.getLogger("mmalign")


def explore(
    model: Aligner | str | Path,
    table: EmbeddingTable | str | Path,
    data: DataConfig | None = None,
    *,
    k: int = 12,
    port: int = 0,
    upload_mb: float = 32.0,
    seconds: float = 60.0,
    split: str = "all",
    device: str = "auto",
) -> Explorer:
    """Serve a page on 127.0.0.1 on which a person searches a table, as `mmalign explore` does.

    Queries are typed or dropped, of any tower that shares a space with the table; answers are drawn by their modality.
    The page loads nothing from other addresses, and reads no files but those of the data.

    Args:
        model: The model of the table, or the path of its bundle or run.
        table: An embedding table, the path of its file, or the name of a tower, whose records in the data are embedded.
        data: The embedded data; not needed where strings are samples, but for filters by group.
        k: Number of answers, up to 100.
        port: Port on 127.0.0.1; 0 = a free one.
        upload_mb: Megabytes of a query's files.
        seconds: Time limit of one request.
        split: Records to embed where `table` is a tower.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Returns:
        The running page: `url`, `wait()` and `close()`; it is a context manager.

    Raises:
        UserError: Gradio is not installed, the port is in use, the table is of another model, or its samples are files
            and there are no data.

    Example:
        >>> import mmalign
        >>> data = mmalign.DataConfig("digits")
        >>> with mmalign.explore("runs/first", "digits.parquet", data) as page:  # doctest: +SKIP
        ...     print(page.url)
    """
    session = open_session(
        model, table, data, k=k, limits=Limits(upload_mb=upload_mb, seconds=seconds), split=split, device=device
    )
    return Explorer(session, port)


def open_session(
    model: Aligner | str | Path,
    table: EmbeddingTable | str | Path,
    data: DataConfig | None = None,
    *,
    k: int = 12,
    limits: Limits | None = None,
    split: str = "all",
    device: str = "auto",
) -> Session:
    """The session of `explore`, without a page; the arguments are those of `explore`."""
    loaded = model_of(model, device)
    if isinstance(table, EmbeddingTable):
        rows = table
    elif str(table) in loaded.towers and not Path(table).is_file():
        if data is None:
            raise UserError(f"to embed the tower {str(table)!r}, name the data with --data.*")
        rows = embed(loaded, data, str(table), split=split)
    else:
        rows = EmbeddingTable.read(table)
    if loaded.path:
        rows.require_bundle(bundle.fingerprint(loaded.path))
    if rows.tower not in loaded.towers:
        raise UserError(f"the table is of the tower {rows.tower!r}; this model has {', '.join(loaded.towers)}")
    return Session(loaded, rows, _samples(loaded, rows, data), k=k, limits=limits)


def _samples(model: Aligner, table: EmbeddingTable, data: DataConfig | None) -> TableSamples:
    modality = model.modalities[table.tower]
    needed = not all(value is not None and is_sample(modality, value) for value in table.values)
    if data is not None:
        try:
            return TableSamples.open(model, table.tower, data)
        except UserError as error:
            if needed:
                raise
            _LOG.warning("no filters by group, as the data cannot be opened: %s", error)
    if needed:
        raise UserError(f"samples of {table.tower!r} are files: to draw them, name the embedded data with --data.*")
    return TableSamples(modality, table.tower, None)
