"""Flags of the commands that write and search embedded tables."""

from dataclasses import dataclass


@dataclass
class EmbedFlags:
    """Embed one tower of a data set into a table: a Parquet file, or an Arrow file that is mapped when it is read.

    Args:
        bundle: Bundle or run folder.
        tower: Tower to embed.
        out: File to write: Parquet or, if its name ends in .arrow, Arrow.
        split: Records to embed: train, validation, test or all.
        batch_size: Samples per forward pass.
        dims: Number of leading dimensions of each vector to keep, renormalised (Matryoshka); null = all.
        precision: float32, float16, int8 or binary (the sign of each centred number: 1/32 of the bytes).
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    tower: str
    out: str
    split: str = "all"
    batch_size: int = 256
    dims: int | None = None
    precision: str = "float32"
    device: str = "auto"


@dataclass
class IndexFlags:
    """Build an index for approximate search next to an embedded table, and measure its recall against exact search.

    Args:
        table: Table written by `mmalign embed`.
        kind: hnsw (fast, as large as the vectors) or ivfpq (small).
        queries: Table of the queries that recall is measured with; null = rows of the table itself.
        recall: Aim for recall@10 against exact search; the effort of a query is doubled until it is reached.
        seed: Seed of the drawn queries and of the index.
        json: Write the measurement to this file.
    """

    table: str
    kind: str = "hnsw"
    queries: str | None = None
    recall: float = 0.95
    seed: int = 0
    json: str | None = None


@dataclass
class ExploreFlags:
    """Serve a page on 127.0.0.1 on which a person searches an embedded table: type a sample, or drop a file.

    Args:
        bundle: Bundle or run folder.
        table: Table written by `mmalign embed`; or a tower, whose records in the data are embedded first.
        k: Answers per query, up to 100.
        port: Port on 127.0.0.1; 0 = a free one.
        upload_mb: Megabytes of the files of one query.
        seconds: Time limit of one request.
        split: Records to embed if TABLE is a tower: train, validation, test or all.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
    """

    bundle: str
    table: str
    k: int = 12
    port: int = 7860
    upload_mb: float = 32.0
    seconds: float = 60.0
    split: str = "all"
    device: str = "auto"


@dataclass
class SearchFlags:
    """Find the nearest records of an embedded table.

    Args:
        bundle: Bundle or run folder.
        index: Table written by `mmalign embed`.
        tower: Tower of the queries.
        queries: Queries: sentences, or paths of files; with --by_id, ids of rows of the table.
        k: Results per query.
        engine: auto and torch are exact; faiss is exact too; hnsw and ivfpq read the index of `mmalign index`.
        by_id: Queries are ids of the table: find the rows that resemble these rows.
        rescore: Table of the same rows at higher precision, by which the first results are scored again.
        device: auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1.
        json: Write the results to this file.
        picture: Draw queries and results to this file.
    """

    bundle: str
    index: str
    tower: str
    queries: list[str]
    k: int = 10
    engine: str = "auto"
    by_id: bool = False
    rescore: str | None = None
    device: str = "auto"
    json: str | None = None
    picture: str | None = None
