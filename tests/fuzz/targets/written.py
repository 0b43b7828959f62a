"""What `mmalign index` and `mmalign evaluate --rows` write: indices of tables, and rows that `compare` reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import mmalign
from mmalign.embedding.stored_vectors import StoredVectors
from mmalign.embedding.table import EmbeddingTable
from mmalign.evaluation.comparison.compare import compare_results
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.report.rows import read_rows, write_rows
from mmalign.searching.approximate import KINDS, candidates
from tests.fuzz.case import Case, Nonsense, Target
from tests.fuzz.seeds.reading import files_of, single

TABLE = "t.arrow"


def indices(folder: Path) -> dict[str, Case]:
    """A small table and its index of each kind; the report beside it has no times."""
    rng = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(1000, 4, generator=rng), dim=1)
    names = [str(row) for row in range(1000)]
    cases = {}
    for kind in KINDS:
        place = folder / kind
        place.mkdir()
        EmbeddingTable(names, [0] * 1000, names, names, [()] * 1000, StoredVectors.of(vectors), "right").write(
            place / TABLE
        )
        mmalign.build_index(place / TABLE, kind)
        facts = place / f"{TABLE}.{kind}.json"
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"seconds": 0.0, "exact_seconds": 0.0, "file": ""}))
        cases[kind] = Case(files_of(place), TABLE)
    return cases


def use_index(path: Any) -> None:
    """The rows that an index finds are rows of the table."""
    path = Path(path)
    kind = next((kind for kind in KINDS if path.with_name(f"{TABLE}.{kind}.json").exists()), KINDS[0])
    table = EmbeddingTable.read(path)
    rows = candidates(table, path, kind, table.vectors.decode(slice(0, 3)), 2)
    if rows.numel() and not -1 <= int(rows.min()) <= int(rows.max()) < len(table):
        raise Nonsense("rows that the table does not have")


def rows_tables(folder: Path) -> dict[str, Case]:
    """Rows of a retrieval and of a classification."""
    provenance = {"data_hash": "0" * 16, "split": "test", "protocol": {"ranks": "pessimistic", "relevance": "record"}}
    retrieval = {"query": list("abcdef"), "query_alternative": [0] * 6, "group": [None, "g", "g", None, "h", "h"],
                 "direction": ["a->b"] * 6, "rank": [1, 2, 1, 5, 3, 1], "hit@1": [1.0, 0, 1.0, 0, 0, 1.0]}  # fmt: skip
    classes = {"id": list("abcd"), "alternative": [0] * 4, "group": ["g", "g", "h", "h"],
               "truth": ["x", "y", "x", "y"], "truth_rank": [1, 2, 1, 1]}  # fmt: skip
    regression = {
        "id": list("abcd"),
        "alternative": [0] * 4,
        "group": ["g", "g", "h", "h"],
        "truth": [1.0, 2.0, 3.0, 4.0],
        "prediction": [1.5, 2.0, 2.0, 4.0],
        "error": [0.5, 0.0, -1.0, 0.0],
    }
    made = {
        "retrieval": (retrieval, {"gallery": {"a->b": {"set": "split", "size": 6, "hash": "1"}}}),
        "zero-shot": (classes, {}),
        "regression": (regression, {}),
    }
    cases = {}
    for task, (columns, more) in made.items():
        stated = {"task": task, "scores": {"classes": 2}, "provenance": provenance | more}
        write_rows(columns, folder / f"{task}.parquet", stated)
        cases[task] = single("r.parquet", (folder / f"{task}.parquet").read_bytes())
    return cases


def use_rows(path: Any) -> None:
    """Compares the rows with themselves: no difference."""
    columns, result = read_rows(path)
    stated = EvalResult(result["task"], result["scores"], result["provenance"], rows=columns)
    if any(one.difference for one in compare_results({"a": stated, "b": stated}, bootstrap=100).differences):
        raise Nonsense("a model differs from itself")


def written_targets(folder: Callable[[], Path]) -> list[Target]:
    """Everything of this file; `folder` gives empty folders."""
    return [
        Target("index", indices(folder()), use_index, 0.5),
        Target("rows", rows_tables(folder()), use_rows, 0.3),
    ]
