"""How far exported programs are from the model: differences of vectors, and hits of int8 programs in retrieval."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.data.split import Split
from mmalign.exporting.program import Run
from mmalign.inference import inference
from mmalign.model import Aligner
from mmalign.types import Inputs

ROWS = 1000
"""Maximum number of records in the retrieval comparison."""


def differences(model: Aligner, tower: str, run: Run, batches: Sequence[Inputs]) -> tuple[float, float]:
    """Largest and mean absolute difference of the outputs over all batches."""
    apart = []
    for inputs in batches:
        with inference(model):
            expected = model.embed(tower, inputs)
        for name, value in run(inputs).items():
            apart.append((value.float() - getattr(expected, name).float()).abs().flatten())
    every = torch.cat(apart)
    return float(every.max()), float(every.mean())


def retrieval(
    model: Aligner, data: Dataset, split: str, runs: Mapping[str, tuple[Run, Run]], *, batch_size: int = 16
) -> list[dict[str, Any]]:
    """hit@1 and hit@10 between towers by the cosine of vectors, of two programs of each tower.

    Args:
        model: The model, for its transforms and pairs.
        data: Data with the samples of the split.
        split: Records to use; at most `ROWS` that have both towers, the first alternative of each.
        runs: Tower -> two programs, of float32 and of int8.
        batch_size: Rows that a program is given at a time.
    """
    found = []
    for pair in model.pairs:
        a, b = pair.a, pair.b
        if a == b or a not in runs or b not in runs:
            continue
        part = data.split(split)
        both = (row for row, record in enumerate(part.records) if record.values.get(a) and record.values.get(b))
        few = part.take(islice(both, ROWS))
        of_a, of_b = (_vectors(model, few, tower, runs[tower], batch_size) for tower in (a, b))
        row: dict[str, Any] = {"a": a, "b": b, "n": len(few)}
        for name, vectors_a, vectors_b in zip(("float32", "int8"), of_a, of_b, strict=True):
            row |= {f"{name} {metric}": value for metric, value in _hits(a, b, vectors_a, vectors_b).items()}
        found.append(row)
    return found


def _vectors(model: Aligner, part: Split, tower: str, runs: tuple[Run, Run], batch_size: int) -> list[Tensor]:
    """The vectors of each record's first alternative, by each program."""
    outputs: list[list[Tensor]] = [[] for _ in runs]
    owners = []
    for inputs, owner in part.batches(tower, model.transforms[tower], batch_size=batch_size):
        owners.append(owner)
        for output, run in zip(outputs, runs, strict=True):
            output.append(run(inputs)["vector"])
    if not owners:
        return [torch.empty(0, model.dim) for _ in runs]
    every = torch.cat(owners)  # ascending: the first item of a record is its first alternative
    first = torch.cat([every.new_ones(1, dtype=torch.bool), every[1:] != every[:-1]])
    return [torch.cat(output)[first] for output in outputs]


def _hits(a: str, b: str, of_a: Tensor, of_b: Tensor) -> dict[str, float]:
    scores = of_a @ of_b.T
    found: dict[str, float] = {}
    for direction, matrix in ((f"{a}_to_{b}", scores), (f"{b}_to_{a}", scores.T)):
        own = matrix.diagonal()[:, None]
        rank = (~(matrix < own)).sum(dim=1) - 1  # equal scores, and NaN, count against the program
        found |= {f"hit@{k} {direction}": float((rank < k).float().mean()) for k in (1, 10)}
    return found
