"""Embedding table: the vectors of one tower of a data set with ids and labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mmalign.data.sources.base import Record, Rejected
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.embedding.stored_vectors import StoredVectors
from mmalign.embedding.table_file import Column, read_columns, read_uncertainties, read_vectors, write_columns
from mmalign.errors import UserError
from mmalign.types import Embedding

_BUNDLE = b"mmalign.bundle"
_FULL_SIZE = b"mmalign.full_size"
_HASH = b"mmalign.hash"


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings with ids, locations and labels of their records; `write` and `read` store it as a file.

    Args:
        ids: Record of each item.
        alternatives: The index of each item among the alternatives of its record, from 0.
        locations: Location of the record in its source, for instance `names.tsv:17`.
        values: The raw string of each item, a sentence or a file name; None if the sample was not a string.
        labels: Classes of each record.
        vectors: Vectors only: codes, tokens and variances belong to the model.
        tower: The tower that was embedded.
        bundle: Hash of the bundle that computed them, "" if unknown.
        rejected: Records that could not be read; not written to the file.
        uncertainties: Uncertainty of each item, see `Embedding.uncertainty`; None if the model has none.
        full_size: Size of the model's vectors, of which these are the first numbers; None = not truncated.
        hash: Hash of vectors and ids as the file states it, see `fingerprint`; "" = not stated.
    """

    ids: Sequence[str]
    alternatives: Sequence[int]
    locations: Sequence[str]
    values: Sequence[str | None]
    labels: Sequence[tuple[str, ...]]
    vectors: StoredVectors
    tower: str
    bundle: str = ""
    rejected: Sequence[Rejected] = ()
    uncertainties: Sequence[float] | None = None
    full_size: int | None = None
    hash: str = ""

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def embedding(self) -> Embedding:
        """All vectors, decoded to float32 `(items, dim)`."""
        return Embedding(self.vectors.decode(), tower=self.tower)

    @property
    def fingerprint(self) -> str:
        """Hash of vectors and ids: an index for approximate search belongs to the table that it was built from."""
        if self.hash:
            return self.hash
        digest = hashlib.sha256(f"{self.vectors.precision} {self.vectors.dim} {len(self)}\n".encode())
        for part in (self.vectors.codes, self.vectors.center, self.vectors.step):
            if part is not None:
                digest.update(part.contiguous().view(torch.uint8).numpy().data)
        for one in self.ids:
            digest.update(f"{len(one)} {one}\n".encode())
        return digest.hexdigest()

    def at(self, precision: str) -> "EmbeddingTable":
        """The same table with its vectors at another precision: float32, float16, int8 or binary."""
        return replace(self, vectors=self.vectors.at(precision), hash="")

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
            vectors=StoredVectors.of(embedded.embedding.vector),
            tower=tower,
            bundle=bundle,
            uncertainties=None if embedded.embedding.log_variance is None else embedded.embedding.uncertainty.tolist(),
        )

    @staticmethod
    def read(path: Path | str) -> "EmbeddingTable":
        """Read a file that `write`, or `mmalign embed`, has written; an Arrow file is mapped, not loaded.

        Raises:
            UserError: the file is neither Parquet nor Arrow, has the column names of an older mmalign, lacks a column,
                or its vectors are not finite numbers of one length.
        """
        table, named = read_columns(path)
        towers = set(named.column("tower").unique().to_pylist())
        if len(towers) != 1 or None in towers:
            raise UserError(f"{path}: expected embeddings of one tower, got {sorted(map(str, towers)) or 'none'}")
        stated = {name: value.decode("utf-8", "replace") for name, value in (table.schema.metadata or {}).items()}
        full_size = stated.get(_FULL_SIZE, "")
        return EmbeddingTable(
            ids=Column(named.column("id"), str),
            alternatives=Column(named.column("alternative"), int),
            locations=Column(named.column("location"), str),
            values=Column(named.column("value"), _same),
            labels=Column(named.column("label"), lambda labels: tuple(labels or ())),
            vectors=read_vectors(path, table),
            tower=towers.pop(),
            bundle=stated.get(_BUNDLE, ""),
            uncertainties=read_uncertainties(path, table),
            full_size=int(full_size) if full_size.isdecimal() and len(full_size) < 10 else None,
            hash=stated.get(_HASH, ""),
        )

    def write(self, path: Path | str) -> None:
        """Write a Parquet file or, if the name ends in `.arrow`, an Arrow file, which is mapped when it is read.

        One row per item with the columns id, tower, alternative, location, value, label and vector; for a probabilistic
        model also `uncertainty`, the sum of variances of each item.
        """
        towers, labels = [self.tower] * len(self), [list(labels) for labels in self.labels]
        named = (self.ids, towers, self.alternatives, self.locations, self.values, labels)
        metadata = {_BUNDLE: self.bundle.encode(), _HASH: self.fingerprint.encode()}
        if self.full_size is not None:
            metadata[_FULL_SIZE] = str(self.full_size).encode()
        write_columns(path, named, self.vectors, self.uncertainties, metadata)

    def require_bundle(self, bundle: str) -> None:
        """Raise a `UserError` if another bundle computed these embeddings: two models' spaces are not comparable."""
        if self.bundle and self.bundle != bundle:
            raise UserError(
                f"these embeddings were made by bundle {self.bundle}, this is {bundle}; embed the data with this one"
            )


def _same(value: str | None) -> str | None:
    return value
