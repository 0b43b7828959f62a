"""`mmalign.embed`: embed one tower of a data set into a table."""

from dataclasses import replace
from pathlib import Path

from mmalign.bundles import bundle
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.truncation import warn_truncated
from mmalign.embedding.loop import embed_split, opened
from mmalign.embedding.stored_vectors import require_precision
from mmalign.embedding.table import EmbeddingTable
from mmalign.embedding.truncated import truncated_vectors
from mmalign.model import Aligner
from mmalign.selection import model_of, require_tower


def embed(
    model: Aligner | str | Path,
    data: DataConfig | Dataset,
    tower: str,
    *,
    split: str = "all",
    batch_size: int = 256,
    dims: int | None = None,
    precision: str = "float32",
    device: str = "auto",
) -> EmbeddingTable:
    """Embed one tower of a data set, as `mmalign embed` does.

    Args:
        model: A model, or the path of a bundle or run.
        data: The configuration of the data, or data that are open; the samples of `split` are read here.
        tower: The tower.
        split: Records to embed: train, validation, test or all.
        batch_size: Samples per forward pass.
        dims: Number of leading dimensions of each vector to keep, renormalised (Matryoshka); None = all.
        precision: Precision at which vectors are stored: float32, float16, int8 or binary, see `StoredVectors`.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Returns:
        One row per item, with the id and location of its record; `write` stores it, `mmalign.search` searches it.

    Raises:
        UserError: the model has no such tower, the data has no column for it, the split has no record with it, the
            vectors are shorter than `dims`, or there is no such precision.

    Example:
        >>> import mmalign
        >>> table = mmalign.embed("runs/first", mmalign.DataConfig("digits"), "image")  # doctest: +SKIP
        >>> table.write("digits.parquet")  # doctest: +SKIP
    """
    require_precision(precision)
    loaded = model_of(model, device)
    require_tower(loaded, tower)
    read = opened(loaded, data, (tower,), split)
    warn_truncated([read.split(split)], {tower: loaded.transforms[tower]})
    with truncated_vectors(loaded, dims, (tower,)):
        embedded = embed_split(loaded, read, tower, split, batch_size=batch_size)
    origin = bundle.fingerprint(loaded.path) if loaded.path else ""
    table = EmbeddingTable.of(embedded, read.split(split).records, bundle=origin)
    truncated = dims is not None and dims < loaded.dim
    full_size = loaded.dim if truncated else None
    return replace(table, vectors=table.vectors.at(precision), rejected=read.rejected, full_size=full_size)
