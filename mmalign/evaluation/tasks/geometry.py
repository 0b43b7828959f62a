"""Geometry: the gap between the vectors of two towers, and how evenly they use the shared space."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import EmbeddedSplit, averaged, embed_split
from mmalign.errors import UserError
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.metrics import geometry
from mmalign.evaluation.metrics.labels import groups_of
from mmalign.evaluation.metrics.weighted import Floats, Ints
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import EvalSettings, Pair, Task
from mmalign.model import Aligner

LEAST = 3
PROTOCOL = {
    "vectors": "of length 1; several alternatives of a record: their mean, of length 1; cosine, also where "
    "another similarity was trained",
    "centred": "each tower's vectors less their mean over the evaluated records, divided by their length again",
    "modality_gap": "distance of the towers' means",
    "gap_share": "fraction of the pairs' squared differences along their first principal direction",
    "alignment": "mean squared distance of the vectors of a pair",
    "hit@1": "fraction of the records whose own item has a larger cosine than every other",
    "uniformity": "log of the mean of exp(-2 |x - y|^2) over pairs of different records",
    "isotropy": "1 less the mean cosine of two different records",
    "effective_rank": "exp of the entropy of the eigenvalues of the mean of x x^T",
    "hubness": "skewness of the number of queries, of the other tower, that have an item among their k nearest",
    "intervals": "95 % percentile bootstrap, whole groups (patients) drawn, a record without group by itself",
}


@dataclass(frozen=True)
class Geometry(Task):
    """Geometry of the shared space: modality gap, alignment, uniformity, isotropy, effective rank and hubness.

    Args:
        neighbours: Nearest items that count for hubness; fewer where the split is smaller.
    """

    name: ClassVar[str] = "geometry"

    neighbours: int = 10

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """Both towers."""
        if pair[0] == pair[1]:
            raise UserError(f"geometry compares the vectors of two towers, got {pair[0]!r} twice")
        return pair

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Embed the records that have both towers, and measure their vectors, as trained and centred.

        Returns:
            `space`, a table with the rows `as trained` and `centred`, columns `modality_gap`, `gap_share`, `alignment`
            and, per direction, `hit@1`; `towers`, a table with a row per tower and space, columns `uniformity`,
            `isotropy`, `effective_rank` and `hubness`. `details`: `vectors`, tower -> `(n, dim)` as trained.

        Raises:
            UserError: fewer than three records have both towers, or a vector that is not finite.
        """
        if self.neighbours < 1:
            raise UserError(f"--neighbours: expected at least 1, got {self.neighbours}")
        embedded = [
            averaged(
                embed_split(
                    model, data, tower, settings.split, batch_size=settings.batch_size, packed=True, vectors_only=True
                )
            )
            for tower in towers
        ]
        a, b, records = _common(*embedded)
        if len(records) < LEAST:
            raise UserError(
                f"geometry: expected at least {LEAST} records of split {settings.split!r} with both "
                f"{towers[0]!r} and {towers[1]!r}, got {len(records)}"
            )
        for tower, vectors in zip(towers, (a, b), strict=True):
            if not np.isfinite(vectors).all():
                raise UserError(
                    f"{tower}: expected finite vectors, got NaN or infinity; the training may have diverged"
                )
        groups = groups_of(data.split(settings.split).records, torch.from_numpy(records))
        k = min(self.neighbours, len(records))
        space: dict[str, dict[str, Any]] = {}
        each: dict[str, dict[str, Any]] = {}
        a, b = geometry.unit(a), geometry.unit(b)
        for title, change in (("as trained", geometry.unit), ("centred", geometry.centred)):
            pair = change(a), change(b)
            space[title] = _pair_figures(*pair, towers, groups, settings)
            for index, tower in enumerate(towers):
                own, other = pair[index], pair[1 - index]
                each[f"{tower}, {title}"] = {
                    "uniformity": geometry.uniformity(own),
                    "isotropy": geometry.isotropy(own),
                    "effective_rank": geometry.effective_rank(own),
                    "hubness": geometry.hubness(geometry.nearest_items(other, own, k), len(own)),
                }
        scores: dict[str, Any] = {
            "n": len(records),
            "groups": len(np.unique(groups)),
            "dimensions": a.shape[1],
            "neighbours": k,
            "space": space,
            "towers": each,
        }
        origin = settings.provenance(model, data, PROTOCOL | {"pair": " ".join(towers)})
        return EvalResult(self.name, scores, origin, {"vectors": dict(zip(towers, (a, b), strict=True))})


def _common(a: EmbeddedSplit, b: EmbeddedSplit) -> tuple[Floats, Floats, Ints]:
    """Vectors of the records that have both towers, and the indices of these records."""
    records, rows, columns = np.intersect1d(a.record_indices.numpy(), b.record_indices.numpy(), return_indices=True)
    return (
        a.embedding.vector.double().numpy()[rows],
        b.embedding.vector.double().numpy()[columns],
        records.astype(np.int64),
    )


def _pair_figures(
    a: Floats, b: Floats, towers: tuple[str, ...], groups: Ints, settings: EvalSettings
) -> dict[str, Any]:
    values = {
        "alignment": geometry.squared_distances(a, b),
        f"{towers[0]}_to_{towers[1]}_hit@1": _hits(a, b),
        f"{towers[1]}_to_{towers[0]}_hit@1": _hits(b, a),
    }
    table = np.stack(list(values.values()), axis=1)
    intervals = boot.means(table, groups, resamples=settings.bootstrap, seed=settings.seed)
    figures: dict[str, Any] = {"modality_gap": geometry.modality_gap(a, b), "gap_share": geometry.gap_share(a, b)}
    for index, (name, column) in enumerate(values.items()):
        figures[name] = float(column.mean())
        if intervals[index]:
            figures[f"{name}_ci"] = intervals[index]
    return figures


def _hits(queries: Floats, gallery: Floats) -> Floats:
    """1 where a query's own item has a larger cosine than every other, `(n,)`."""
    hits = []
    step = max(1, geometry.BLOCK // len(gallery))
    for start in range(0, len(queries), step):
        cosines = queries[start : start + step] @ gallery.T
        rows = np.arange(len(cosines))
        own = cosines[rows, start + rows].copy()
        cosines[rows, start + rows] = -np.inf
        hits.append(own > cosines.max(axis=1) + 1e-6)  # float32 vectors: closer cosines are ties, and count against
    return np.concatenate(hits).astype(np.float64)
