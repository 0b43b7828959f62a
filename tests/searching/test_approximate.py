"""Approximate search: recall is measured, scores are exact, and an index belongs to one table."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mmalign
from mmalign import Aligner, EmbeddingTable, StoredVectors, UserError

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 2,000 rows in 20 clusters."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(20, 8, generator=random)
    vectors = centers[torch.randint(20, (2000,), generator=random)] + 0.3 * torch.randn(2000, 8, generator=random)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    names = [str(row) for row in range(2000)]
    file = tmp_path_factory.mktemp("index") / "rows.arrow"
    EmbeddingTable(names, [0] * 2000, names, names, [()] * 2000, StoredVectors.of(vectors), "right").write(file)
    return file


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_an_index_reaches_its_recall_and_is_used(model: Aligner, path: Path, kind: str) -> None:
    report = mmalign.build_index(path, kind)
    assert report.recall >= 0.95
    assert report.queries == 1000
    assert report.file == f"{path}.{kind}.faiss"
    queries = torch.randn(40, 8).tolist()
    exact = mmalign.search(model, queries, tower="left", index=path, k=10).hits
    found = mmalign.search(model, queries, tower="left", index=path, k=10, engine=kind).hits
    scores = [{hit.id: hit.score for hit in row} for row in exact]
    same = [[hit for hit in row if hit.id in known] for row, known in zip(found, scores, strict=True)]
    assert sum(map(len, same)) >= 0.9 * 400
    for row, known in zip(same, scores, strict=True):
        assert [hit.score for hit in row] == pytest.approx([known[hit.id] for hit in row], abs=1e-6)
    assert all([hit.score for hit in row] == sorted((hit.score for hit in row), reverse=True) for row in found)


def test_recall_of_queries_of_another_table(path: Path, tmp_path: Path) -> None:
    vectors = StoredVectors.of(torch.randn(30, 8))
    names = [str(row) for row in range(30)]
    other = EmbeddingTable(names, [0] * 30, names, names, [()] * 30, vectors, "left")
    assert mmalign.build_index(path, queries=other).queries == 30
    short = EmbeddingTable(["a"], [0], ["a"], ["a"], [()], StoredVectors.of(torch.ones(1, 3)), "left")
    with pytest.raises(UserError, match="expected queries of 8 numbers, got 3"):
        mmalign.build_index(path, queries=short)


def test_an_index_of_other_vectors_or_a_damaged_one_is_refused(model: Aligner, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "rows.arrow"
    copy.write_bytes(path.read_bytes())
    ask: dict[str, Any] = {"tower": "left", "index": copy, "engine": "hnsw"}
    with pytest.raises(UserError, match=r"no such index; run: mmalign index .*rows.arrow --kind hnsw"):
        mmalign.search(model, [[1.0] * 8], **ask)
    report = mmalign.build_index(copy)
    file = Path(report.file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="missing or damaged"):
        mmalign.search(model, [[1.0] * 8], **ask)
    facts = file.with_suffix(".json")
    whole = json.loads(facts.read_text())
    for change, message in [({"effort": "many"}, "expected the keys"), ({"format": 0}, "expected format 1, got 0"),
                            ({"table": "0" * 64}, "built from other vectors")]:  # fmt: skip
        facts.write_text(json.dumps(whole | change))
        with pytest.raises(UserError, match=message):
            mmalign.search(model, [[1.0] * 8], **ask)
    facts.write_text("{")
    with pytest.raises(UserError, match="expected the JSON of mmalign index"):
        mmalign.search(model, [[1.0] * 8], **ask)


@pytest.mark.parametrize("change", ["rows", "size", "kind", "text"])
def test_an_index_that_does_not_fit_its_table_is_refused(
    model: Aligner, path: Path, tmp_path: Path, change: str
) -> None:
    """Its hash is right, as of a file that another program wrote: FAISS would end the process, or name no row."""
    import faiss

    from mmalign.data.files.store import file_sha256

    copy = tmp_path / "rows.arrow"
    copy.write_bytes(path.read_bytes())
    file = Path(mmalign.build_index(copy).file)
    made = {"rows": (8, 3000), "size": (9, 2000), "kind": (8, 2000)}
    if change in made:
        dim, count = made[change]
        other = faiss.IndexFlatIP(dim) if change == "kind" else faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        other.add(torch.randn(count, dim, generator=torch.Generator().manual_seed(0)).numpy())
        faiss.write_index(other, str(file))
    else:
        file.write_text("no index at all, but the right hash")
    facts = file.with_suffix(".json")
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"sha256": file_sha256(file)}))
    with pytest.raises(UserError, match="expected an index (hnsw of 2000 rows of 8 numbers|of FAISS), got .*again"):
        mmalign.search(model, [[1.0] * 8], tower="left", index=copy, engine="hnsw")


def test_invalid_kind_and_small_tables_are_errors(model: Aligner, path: Path) -> None:
    with pytest.raises(UserError, match="kind: expected hnsw or ivfpq, got 'lsh'"):
        mmalign.build_index(path, "lsh")
    few = EmbeddingTable(["a"], [0], ["a"], ["a"], [()], StoredVectors.of(torch.ones(1, 8)), "right")
    with pytest.raises(UserError, match="at least 1,000 rows"):
        mmalign.build_index(few, path=path)
    with pytest.raises(UserError, match="name the table's file"):
        mmalign.build_index(few)
    with pytest.raises(UserError, match="give the path of the table"):
        mmalign.search(model, [[1.0] * 8], tower="left", index=few, engine="hnsw")
