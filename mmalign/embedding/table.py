"""Embedding table: the vectors of one tower of a data set with ids and labels; a Parquet file."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign import bundle
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record, Rejected
from mmalign.data.truncation import warn_truncated
from mmalign.embedding.loop import EmbeddedSplit, embed_split, opened
from mmalign.embedding.truncated import truncated_vectors
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.safe_writing import replaced
from mmalign.selection import model_of, require_tower
from mmalign.types import Embedding

COLUMNS = ("id", "tower", "alternative", "location", "value", "label", "vector")
_OLD_COLUMNS = {"side", "place", "row"}
_BUNDLE = b"mmalign.bundle"
_FULL_SIZE = b"mmalign.full_size"
_UNCERTAINTY = "uncertainty"


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings with ids, locations and labels of their records; `write` and `read` store it as a Parquet file.

    Args:
        ids: Record of each item.
        alternatives: The index of each item among the alternatives of its record, from 0.
        locations: Location of the record in its source, for instance `names.tsv:17`.
        values: The raw string of each item, a sentence or a file name; None if the sample was not a string.
        labels: Classes of each record.
        embedding: `(items, dim)`, float32; vectors only: codes, tokens and variances belong to the model.
        bundle: Hash of the bundle that computed them, "" if unknown.
        rejected: Records that could not be read; not written to the file.
        uncertainties: Uncertainty of each item, see `Embedding.uncertainty`; None if the model has none.
        full_size: Size of the model's vectors, of which these are the first numbers; None = not truncated.
    """

    ids: Sequence[str]
    alternatives: Sequence[int]
    locations: Sequence[str]
    values: Sequence[str | None]
    labels: Sequence[tuple[str, ...]]
    embedding: Embedding
    bundle: str = ""
    rejected: Sequence[Rejected] = ()
    uncertainties: Sequence[float] | None = None
    full_size: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def of(embedded: EmbeddedSplit, records: Sequence[Record], *, bundle: str = "") -> "EmbeddingTable":
        """Join embeddings with the records of their split."""
        tower, alternatives = embedded.embedding.tower, embedded.alternative_indices.tolist()
        owners = [records[index] for index in embedded.record_indices.tolist()]
        raw = [owner.values[tower][index] for owner, index in zip(owners, alternatives, strict=True)]
        return EmbeddingTable(
            ids=[owner.id for owner in owners],
            alternatives=alternatives,
            locations=[owner.location for owner in owners],
            values=[value if isinstance(value, str) else None for value in raw],
            labels=[owner.labels for owner in owners],
            embedding=embedded.embedding,
            bundle=bundle,
            uncertainties=None if embedded.embedding.log_variance is None else embedded.embedding.uncertainty.tolist(),
        )

    @staticmethod
    def read(path: Path | str) -> "EmbeddingTable":
        """Read a file that `write`, or `mmalign embed`, has written.

        Raises:
            UserError: the file is not Parquet, has the column names of an older mmalign, lacks a column, or its vectors
                are not finite numbers of one length.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(str(path))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: expected a Parquet file from mmalign embed: {error}") from error
        if _OLD_COLUMNS.issubset(table.column_names):
            raise UserError(
                f"{path}: expected the columns {', '.join(COLUMNS)}, got the columns side, place and row "
                "of an older mmalign; write the table again with mmalign embed"
            )
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise UserError(f"{path}: expected columns {', '.join(COLUMNS)}; without {', '.join(missing)}")
        try:
            named = table.select(COLUMNS[:-1]).cast(_schema())
            named.validate(full=True)  # texts that are not UTF-8, among others
        except (pa.ArrowException, ValueError) as error:
            raise UserError(f"{path}: expected the column types of mmalign embed: {error}") from error
        towers = set(named.column("tower").to_pylist())
        if len(towers) != 1 or None in towers:
            raise UserError(f"{path}: expected embeddings of one tower, got {sorted(map(str, towers)) or 'none'}")
        vectors = _matrix(path, table.column("vector"))
        metadata = table.schema.metadata or {}
        full_size = metadata.get(_FULL_SIZE, b"").decode()
        return EmbeddingTable(
            ids=named.column("id").to_pylist(),
            alternatives=named.column("alternative").to_pylist(),
            locations=named.column("location").to_pylist(),
            values=named.column("value").to_pylist(),
            labels=[tuple(labels or ()) for labels in named.column("label").to_pylist()],
            embedding=Embedding(vectors, tower=towers.pop()),
            bundle=metadata.get(_BUNDLE, b"").decode(),
            uncertainties=_uncertainties(path, table),
            full_size=int(full_size) if full_size.isdecimal() else None,
        )

    def write(self, path: Path | str) -> None:
        """Write a Parquet file: one row per item with the columns `COLUMNS`; the bundle's hash is file metadata.

        For a probabilistic model, a last column `uncertainty` has the sum of variances of each item.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        vectors = self.embedding.vector.numpy()
        dim = vectors.shape[1]
        # 64-bit offsets: 2**31 numbers are only four million vectors of 512.
        offsets = pa.array(np.arange(0, vectors.size + 1, dim, dtype=np.int64))
        named = [
            list(self.ids),
            [self.embedding.tower] * len(self),
            list(self.alternatives),
            list(self.locations),
            list(self.values),
            [list(labels) for labels in self.labels],
        ]
        table = pa.table(named, schema=_schema()).append_column(
            "vector", pa.LargeListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
        )
        if self.uncertainties is not None:
            table = table.append_column(_UNCERTAINTY, pa.array(self.uncertainties, pa.float32()))
        truncated = {} if self.full_size is None else {_FULL_SIZE: str(self.full_size).encode()}
        table = table.replace_schema_metadata({_BUNDLE: self.bundle.encode(), **truncated})
        with replaced(path) as partial:
            pq.write_table(table, str(partial), row_group_size=max(1, 2**22 // dim))

    def require_bundle(self, bundle: str) -> None:
        """Raise a `UserError` if another bundle computed these embeddings: two models' spaces are not comparable."""
        if self.bundle and self.bundle != bundle:
            raise UserError(
                f"these embeddings were made by bundle {self.bundle}, this is {bundle}; embed the data with this one"
            )


def embed(
    model: Aligner | str | Path,
    data: DataConfig | Dataset,
    tower: str,
    *,
    split: str = "all",
    batch_size: int = 256,
    dims: int | None = None,
    device: str = "auto",
) -> EmbeddingTable:
    """Embed one tower of a data set, as `mmalign embed` does.

    Args:
        model: A model, or the path of a bundle or run.
        data: The configuration of the data, or data that are open; the samples of `split` are read here.
        tower: The tower.
        split: Records to embed: train, validation, test or all.
        batch_size: Samples per forward pass.
        dims: Number of leading numbers of each vector to keep, renormalised (Matryoshka); None = all.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Returns:
        One row per item, with the id and location of its record; `write` stores it, `mmalign.search` searches it.

    Raises:
        UserError: the model has no such tower, the data has no column for it, the split has no record with it, or the
            vectors are shorter than `dims`.

    Example:
        >>> import mmalign
        >>> table = mmalign.embed("runs/first", mmalign.DataConfig("digits"), "image")  # doctest: +SKIP
        >>> table.write("digits.parquet")  # doctest: +SKIP
    """
    loaded = model_of(model, device)
    require_tower(loaded, tower)
    read = opened(loaded, data, (tower,), split)
    warn_truncated([read.split(split)], {tower: loaded.transforms[tower]})
    with truncated_vectors(loaded, dims, (tower,)):
        embedded = embed_split(loaded, read, tower, split, batch_size=batch_size)
    origin = bundle.fingerprint(loaded.path) if loaded.path else ""
    table = EmbeddingTable.of(embedded, read.split(split).records, bundle=origin)
    truncated = dims is not None and dims < loaded.dim
    return replace(table, rejected=read.rejected, full_size=loaded.dim if truncated else None)


def _schema() -> Any:
    import pyarrow as pa

    kinds = (pa.string(), pa.string(), pa.int32(), pa.string(), pa.string(), pa.list_(pa.string()))
    return pa.schema(list(zip(COLUMNS, kinds, strict=False)))


def _uncertainties(path: Path | str, table: Any) -> list[float] | None:
    import pyarrow as pa

    if _UNCERTAINTY not in table.column_names:
        return None
    column = table.column(_UNCERTAINTY)
    values: list[float] = column.to_pylist() if pa.types.is_floating(column.type) and not column.null_count else []
    if len(values) != len(table) or not all(map(math.isfinite, values)):
        raise UserError(f"{path}: expected a finite number in every row of column {_UNCERTAINTY}")
    return values


def _matrix(path: Path | str, column: Any) -> Tensor:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) or column.null_count:
        raise UserError(f"{path}: expected a list of numbers in every row of column vector, got {column.type}")
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    flat = pc.list_flatten(column)
    if len(lengths) != 1 or not lengths[0] or not pa.types.is_floating(flat.type) or flat.null_count:
        raise UserError(f"{path}: expected vectors of one length, got {column.type} of lengths {lengths[:5]}")
    values = np.ascontiguousarray(flat.to_numpy(), dtype=np.float32)
    with warnings.catch_warnings():
        # Arrow's buffers are read-only; this tensor is only read.
        warnings.simplefilter("ignore", UserWarning)
        vectors = torch.from_numpy(values).view(-1, lengths[0])
    if not math.isfinite(float(vectors.abs().amax())):
        raise UserError(f"{path}: expected finite vectors, got NaN or infinity")
    return vectors
