"""One side of a split -> embeddings, in memory or in a Parquet file."""

import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmalign.data.records import Record
from mmalign.errors import UserError
from mmalign.evaluation.packed import pack
from mmalign.model import Aligner, inference
from mmalign.types import Embedding, Inputs

COLUMNS = ("id", "side", "place", "row", "value", "label", "vector")
AVERAGE = "of {}: a record is one item, the mean of its alternatives"
_BUNDLE = b"mmalign.bundle"


class EvalData(Protocol):
    """What evaluation asks of the data: `mmalign.data.module.PairedData`, or anything shaped like it.

    Attributes:
        all_records: Every row that the source lists, good or not, decoded or not.
    """

    all_records: list[Record]

    def records(self, split: str) -> list[Record]:
        """The good rows of a split."""
        ...

    def item_loader(self, side: str, split: str, *, batch_size: int | None = None) -> Iterable[tuple[Inputs, Tensor]]:
        """Every alternative of every record, collated, with its place in `records(split)`."""
        ...

    def fingerprint(self) -> str:
        """A hash of the data's content."""
        ...


@dataclass(frozen=True)
class SideEmbedding:
    """Every item of one side of a split.

    Args:
        embedding: On the CPU, float32.
        rows: Which record of the split each item belongs to, `(items,)`; several items of one record are neighbours.
    """

    embedding: Embedding
    rows: Tensor

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def places(self) -> Tensor:
        """Which of its record's alternatives each item is, from 0, `(items,)`."""
        places = torch.zeros_like(self.rows)
        seen: dict[int, int] = {}
        for item, row in enumerate(self.rows.tolist()):
            places[item] = seen[row] = seen.get(row, -1) + 1
        return places


def embed_side(
    model: Aligner,
    data: EvalData,
    side: str,
    split: str,
    *,
    batch_size: int = 64,
    packed: bool = False,
    vectors_only: bool = False,
    average: Collection[str] = (),
) -> SideEmbedding:
    """Embed every alternative of every record of a split.

    Args:
        model: What embeds them.
        data: Prepared, with the model's transforms attached.
        side: The tower.
        split: Whose records.
        batch_size: Items a forward pass.
        packed: Keep tokens and parts without padding, see `PackedTokens`; any rows of the embedding come padded.
        vectors_only: Keep only the vectors.
        average: Sides of which a record's alternatives, the clips of one study, become one item.

    Raises:
        UserError: no record of the split has that side, or `average` names a side that has more than vectors.
    """
    rows: list[Tensor] = []

    def parts() -> Iterator[Embedding]:
        for inputs, places in data.item_loader(side, split, batch_size=batch_size):
            rows.append(places.cpu())
            yield model.embed(side, move(inputs, model.device)).to("cpu", torch.float32)

    with inference(model):
        made = parts()
        first = next(made, None)
        if first is None:
            raise UserError(f"no record of split {split!r} has a {side!r}; see mmalign check for what each split holds")
        every = chain([first], made)
        joined = pack(every, vectors_only=vectors_only) if packed or vectors_only else Embedding.cat(list(every))
    embedded = SideEmbedding(joined, torch.cat(rows))
    return averaged(embedded) if side in average else embedded


def averaged(embedded: SideEmbedding) -> SideEmbedding:
    """One item a record: the mean of its alternatives' unit vectors, made a unit vector again.

    A variance becomes the mean of the alternatives' variances: how unsure one of them is, not how far they differ.

    Raises:
        UserError: the embedding has tokens, parts or codes, of which there is no mean.

    Example:
        >>> clips = Embedding(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
        >>> averaged(SideEmbedding(clips, torch.tensor([0, 0, 3]))).embedding.vector
        tensor([[0.7071, 0.7071],
                [1.0000, 0.0000]])
    """
    one = embedded.embedding
    if any(it is not None for it in (one.tokens, one.parts, one.codes)):
        raise UserError(f"--average {one.modality}: its objective reads more than vectors, of which there is no mean")
    records, owner, counts = torch.unique(embedded.rows, return_inverse=True, return_counts=True)

    def mean(values: Tensor) -> Tensor:
        zero = torch.zeros(len(records), values.shape[1], dtype=values.dtype)
        found: Tensor = zero.index_add(0, owner, values) / counts[:, None]
        return found

    vector = torch.nn.functional.normalize(mean(one.vector), dim=1)
    wide = None if one.log_variance is None else mean(one.log_variance.exp()).log()
    return SideEmbedding(replace(one, vector=vector, log_variance=wide), records)


def move(inputs: Inputs, device: torch.device) -> Inputs:
    """Collated inputs on a device."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in inputs.items()}


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings with the names of what they came from: the content of a Parquet file.

    Args:
        ids: Record of each item.
        places: Which of its record's alternatives it is, from 0.
        rows: Where the record stands in its source, for instance `names.tsv:17`.
        values: The raw string of each item, a sentence or a file's name; None where the sample was not a string.
        labels: Classes of each record.
        embedding: `(items, dim)`, float32; vectors only: codes, tokens and variances belong to the model.
        bundle: Hash of the bundle that made them, "" if unknown.
    """

    ids: Sequence[str]
    places: Sequence[int]
    rows: Sequence[str]
    values: Sequence[str | None]
    labels: Sequence[tuple[str, ...]]
    embedding: Embedding
    bundle: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def of(embedded: SideEmbedding, records: Sequence[Record], *, bundle: str = "") -> "EmbeddingTable":
        """Join embeddings with the records of their split."""
        side, places = embedded.embedding.modality, embedded.places.tolist()
        owners = [records[row] for row in embedded.rows.tolist()]
        raw = [owner.values[side][place] for owner, place in zip(owners, places, strict=True)]
        return EmbeddingTable(
            ids=[owner.id for owner in owners],
            places=places,
            rows=[owner.row for owner in owners],
            values=[value if isinstance(value, str) else None for value in raw],
            labels=[owner.labels for owner in owners],
            embedding=embedded.embedding,
            bundle=bundle,
        )

    def require_bundle(self, bundle: str) -> None:
        """Raise a `UserError` when another bundle made these embeddings: the two spaces have nothing in common."""
        if self.bundle and self.bundle != bundle:
            raise UserError(
                f"these embeddings were made by bundle {self.bundle}, this is {bundle}; embed the data with this one"
            )


def write_parquet(
    path: Path | str, embedded: SideEmbedding, data: EvalData, *, split: str, bundle_hash: str = ""
) -> None:
    """Write one row an item: id, side, place, row, value, label, vector; the bundle's hash is file metadata.

    Where the model is probabilistic, a last column `uncertainty` says how unsure each item is.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = EmbeddingTable.of(embedded, data.records(split), bundle=bundle_hash)
    vectors = table.embedding.vector.numpy()
    dim = vectors.shape[1]
    # 64-bit offsets: 2**31 numbers are only four million vectors of 512.
    offsets = pa.array(np.arange(0, vectors.size + 1, dim, dtype=np.int64))
    named = [
        list(table.ids),
        [embedded.embedding.modality] * len(table),
        list(table.places),
        list(table.rows),
        list(table.values),
        [list(labels) for labels in table.labels],
    ]
    out = pa.table(named, schema=_schema()).append_column(
        "vector", pa.LargeListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
    )
    if table.embedding.log_variance is not None:
        out = out.append_column("uncertainty", pa.array(table.embedding.uncertainty.numpy()))
    out = out.replace_schema_metadata({_BUNDLE: bundle_hash.encode()})
    pq.write_table(out, str(path), row_group_size=max(1, 2**22 // dim))


def read_parquet(path: Path | str) -> EmbeddingTable:
    """Read what `write_parquet` wrote.

    Raises:
        UserError: the file is not Parquet, lacks a column, or its vectors are not finite numbers of one length.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(str(path))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: expected a Parquet file from mmalign embed: {error}") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: expected columns {', '.join(COLUMNS)}; without {', '.join(missing)}")
    try:
        named = table.select(COLUMNS[:-1]).cast(_schema())
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"{path}: expected the column types of mmalign embed: {error}") from error
    sides = set(named.column("side").to_pylist())
    if len(sides) != 1 or None in sides:
        raise UserError(f"{path}: expected embeddings of one side, got {sorted(map(str, sides)) or 'none'}")
    vectors = _matrix(path, table.column("vector"))
    return EmbeddingTable(
        ids=named.column("id").to_pylist(),
        places=named.column("place").to_pylist(),
        rows=named.column("row").to_pylist(),
        values=named.column("value").to_pylist(),
        labels=[tuple(labels or ()) for labels in named.column("label").to_pylist()],
        embedding=Embedding(vectors, modality=sides.pop()),
        bundle=(table.schema.metadata or {}).get(_BUNDLE, b"").decode(),
    )


def _schema() -> Any:
    import pyarrow as pa

    kinds = (pa.string(), pa.string(), pa.int32(), pa.string(), pa.string(), pa.list_(pa.string()))
    return pa.schema(list(zip(COLUMNS, kinds, strict=False)))


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
