"""Approximate search: a FAISS index that is kept beside its table, and what it loses against exact search."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.data.files.store import file_sha256
from mmalign.embedding.scoring import inner_product
from mmalign.embedding.stored_vectors import StoredVectors
from mmalign.embedding.table import EmbeddingTable
from mmalign.errors import UserError
from mmalign.registry import missing_extra
from mmalign.safe_io.safe_writing import replaced
from mmalign.searching.exact import CANDIDATES, best_rows, score_again
from mmalign.types import Embedding

KINDS = ("hnsw", "ivfpq")
FORMAT = 1
_MAX_FACTS = 1 << 20
_TRAINING = 256 * 1024
"""Maximum number of rows from which the cells of IVF-PQ are learnt."""


@dataclass(frozen=True)
class IndexReport:
    """What an index finds and costs, measured when it was built.

    Args:
        kind: hnsw or ivfpq.
        effort: Cells (ivfpq) or candidates (hnsw) that are visited for each query.
        recall: Fraction of the 10 exact nearest rows that are among the 10 found, mean over the queries.
        queries: Number of queries.
        exact_seconds: Exact search of these queries.
        seconds: Search of the same queries by the index, the second scoring included.
        bytes: Size of the index file.
        file: The index file.
    """

    kind: str
    effort: int
    recall: float
    queries: int
    exact_seconds: float
    seconds: float
    bytes: int
    file: str

    def show(self) -> None:
        """Print the report."""
        faster = self.exact_seconds / max(self.seconds, 1e-9)
        print(f"{self.kind}: recall@10 {self.recall:.3f} on {self.queries} queries, with effort {self.effort}")
        print(f"time: {self.seconds:.3g} s, exact search {self.exact_seconds:.3g} s ({faster:.1f} times as fast)")
        print(f"written: {self.file} ({self.bytes / 1e6:.1f} MB); use it: mmalign search ... --engine {self.kind}")


def build_index(
    table: EmbeddingTable | str | Path,
    kind: str = "hnsw",
    *,
    path: str | Path | None = None,
    queries: EmbeddingTable | str | Path | None = None,
    recall: float = 0.95,
    seed: int = 0,
) -> IndexReport:
    """Build an index for approximate search beside a table, as `mmalign index` does.

    `hnsw` is a graph of neighbours: fast, and as large as the vectors. `ivfpq` is small: the vectors' cells and product
    codes. The best `10 k` rows of an index are scored again by the table's own vectors, so scores are exact, and only
    rows can be missed. The effort of a query is doubled until `recall` is reached on the queries.

    Args:
        table: An embedding table or the path of its file.
        kind: hnsw or ivfpq.
        path: The table's file, beside which the index is written; default: `table`, if it is a path.
        queries: Table of the queries that recall is measured with, such as the other tower's; default: up to 1,000 rows
            of the table, drawn with `seed` (texts may lie farther from pictures than pictures from one another).
        recall: Aim for recall@10.
        seed: Seed of the drawn rows and of the index.

    Raises:
        UserError: FAISS is not installed, an unknown kind, or a table of fewer than 1,000 rows, for which exact search
            is faster.

    Example:
        >>> import mmalign
        >>> mmalign.build_index("digits.parquet", "hnsw").recall  # doctest: +SKIP
    """
    faiss = load_faiss()
    require_kind(kind)
    if path is None and isinstance(table, EmbeddingTable):
        raise UserError("build_index: name the table's file: build_index(table, path=...)")
    file = index_file(path if path is not None else str(table), kind)
    rows = table if isinstance(table, EmbeddingTable) else EmbeddingTable.read(table)
    if len(rows) < 1000:
        raise UserError(f"expected at least 1,000 rows to index, got {len(rows)}; exact search is faster for so few")
    rng = np.random.default_rng(seed)
    if queries is None:
        drawn = torch.from_numpy(np.sort(rng.permutation(len(rows))[:1000]))
        asked = rows.vectors.decode(drawn)
    else:
        given = queries if isinstance(queries, EmbeddingTable) else EmbeddingTable.read(queries)
        asked = given.vectors.decode(slice(0, 1000))
        if given.vectors.dim != rows.vectors.dim:
            raise UserError(f"expected queries of {rows.vectors.dim} numbers, got {given.vectors.dim}")
    start = time.perf_counter()
    _, exact = best_rows(Embedding(asked), rows.vectors, 10, score=inner_product)
    exact_seconds = time.perf_counter() - start
    index = _built(faiss, rows.vectors, kind, rng)
    effort, reached, seconds = _tuned(index, kind, asked, rows.vectors, exact, recall)
    with replaced(file) as partial:
        faiss.write_index(index, str(partial))
    report = IndexReport(
        kind, effort, reached, len(asked), exact_seconds, seconds, file.stat().st_size, str(file)
    )  # fmt: skip
    stated = {"format": FORMAT, "table": rows.fingerprint, "rows": len(rows), "sha256": file_sha256(file)}
    with replaced(_facts(file)) as partial:
        partial.write_text(json.dumps(stated | asdict(report) | {"file": file.name}, indent=2), encoding="utf-8")
    return report


def candidates(table: EmbeddingTable, path: str | Path, kind: str, queries: Tensor, k: int) -> Tensor:
    """The rows that the index beside a table finds for each query, `(n, 10 k)` at most; -1 = none.

    Raises:
        UserError: there is no such index, it was built from another table, or its file is damaged, of another kind or
            of another number or size of rows.
    """
    faiss = load_faiss()
    file = index_file(path, kind)
    facts = _read_facts(file, kind)
    if facts["table"] != table.fingerprint or facts["rows"] != len(table):
        raise UserError(
            f"{file}: built from other vectors than those of {path}; run: mmalign index {path} --kind {kind}"
        )
    # FAISS does not check what it reads, so a file that differs from what was written is refused here.
    if not file.is_file() or file_sha256(file) != facts["sha256"]:
        raise UserError(f"{file}: missing or damaged; run: mmalign index {path} --kind {kind}")
    try:
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise UserError(f"{file}: expected an index of FAISS, got another file; run mmalign index again") from error
    wanted = {"hnsw": faiss.IndexHNSWFlat, "ivfpq": faiss.IndexIVFPQ}[kind]
    if not isinstance(index, wanted) or (index.ntotal, index.d) != (len(table), table.vectors.dim):
        raise UserError(
            f"{file}: expected an index {kind} of {len(table)} rows of {table.vectors.dim} numbers, got "
            f"{type(index).__name__} of {index.ntotal} rows of {index.d}; run mmalign index again"
        )
    _set_effort(index, kind, facts["effort"], CANDIDATES * k)
    rows = _search(index, queries, min(CANDIDATES * k, len(table)))
    if len(rows) and not -1 <= int(rows.min()) <= int(rows.max()) < len(table):
        raise UserError(f"{file}: expected rows in 0..{len(table) - 1}, got others; run mmalign index again")
    return rows


def index_file(path: str | Path, kind: str) -> Path:
    """The file of an index of a table: `digits.parquet.hnsw.faiss`."""
    return Path(f"{path}.{kind}.faiss")


def require_kind(kind: str) -> None:
    """Raise a `UserError` for an unknown kind of index."""
    if kind not in KINDS:
        raise UserError(f"kind: expected {' or '.join(KINDS)}, got {kind!r}")


def _built(faiss: Any, vectors: StoredVectors, kind: str, rng: np.random.Generator) -> Any:
    dim, count = vectors.dim, len(vectors)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 100
    else:
        cells = int(min(4 * count**0.5, count / 39))
        parts = max(part for part in range(1, dim + 1) if dim % part == 0 and part <= max(1, dim // 4))
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, cells, parts, 8, faiss.METRIC_INNER_PRODUCT)
        drawn = torch.from_numpy(np.sort(rng.permutation(count)[:_TRAINING]))
        for clustering in (index.cp, index.pq.cp):
            clustering.seed = int(rng.integers(2**31))
            clustering.min_points_per_centroid = 1  # no warnings on stderr: recall is measured
        index.train(vectors.decode(drawn).numpy())
    for start in range(0, count, 2**16):
        index.add(vectors.decode(slice(start, start + 2**16)).contiguous().numpy())
    return index


def _tuned(
    index: Any, kind: str, queries: Tensor, vectors: StoredVectors, exact: Tensor, aim: float
) -> tuple[int, float, float]:
    """The smallest power of two of effort that reaches the aim, its recall@10 and its time."""
    effort, most = 1, index.nlist if kind == "ivfpq" else 4096
    while True:
        _set_effort(index, kind, effort, 10 * CANDIDATES)
        start = time.perf_counter()
        rows = _search(index, queries, min(10 * CANDIDATES, len(vectors)))
        _, found = score_again(Embedding(queries), vectors, rows, 10, score=inner_product)
        seconds = time.perf_counter() - start
        hits = (found[:, :, None] == exact[:, None, :]).any(dim=2).float().mean()
        if float(hits) >= aim or effort >= most:
            return effort, float(hits), seconds
        effort = min(2 * effort, most)


def _set_effort(index: Any, kind: str, effort: int, least: int) -> None:
    if kind == "hnsw":
        index.hnsw.efSearch = max(effort, least)
    else:
        index.nprobe = effort


def _search(index: Any, queries: Tensor, k: int) -> Tensor:
    return torch.from_numpy(index.search(queries.contiguous().numpy(), k)[1])


def _facts(file: Path) -> Path:
    return file.with_suffix(".json")


def _read_facts(file: Path, kind: str) -> dict[str, Any]:
    path = _facts(file)
    if not path.is_file():
        table = str(file).removesuffix(f".{kind}.faiss")
        raise UserError(f"{file}: no such index; run: mmalign index {table} --kind {kind}")
    try:
        if path.stat().st_size > _MAX_FACTS:
            raise ValueError
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected the JSON of mmalign index") from error
    kinds = {"format": int, "table": str, "rows": int, "sha256": str, "effort": int}
    if not isinstance(facts, dict) or any(not isinstance(facts.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path}: expected the keys {', '.join(kinds)} of mmalign index")
    if facts["format"] != FORMAT or not 1 <= facts["effort"] <= 2**24:
        raise UserError(f"{path}: expected format {FORMAT}, got {facts['format']}; run mmalign index again")
    return facts


def load_faiss() -> Any:
    """The package FAISS.

    Raises:
        UserError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise missing_extra("faiss", "search") from error
    return faiss
