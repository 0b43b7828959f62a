"""What the page calls: a model, an embedded table, and queries of any tower that shares a space with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmalign.capabilities.reading import Truncating
from mmalign.embedding.scoring import inner_product
from mmalign.embedding.table import EmbeddingTable
from mmalign.embedding.truncated import truncated_vectors
from mmalign.errors import UserError
from mmalign.explanation import Explanation, explain_samples
from mmalign.exploring.answers import Answer, Answers, Query
from mmalign.exploring.filters import Filters
from mmalign.exploring.limits import Limits
from mmalign.exploring.queries import Dropped, dropped_sample, typed_sample
from mmalign.modality import Modality
from mmalign.model import Aligner
from mmalign.objectives.parts.shared_space import emergent_note
from mmalign.pictures.query_map import query_map
from mmalign.pictures.spaces import PrincipalAxes
from mmalign.searching.exact import best_rows
from mmalign.searching.samples import TableSamples
from mmalign.types import Embedding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ON_MAP = 2000
"""Rows to which the components of the map are fitted, and which it shows; evenly spaced in the table."""

EQUAL = 20
"""Rows that are compared for each answer to find rows of equal content."""

_ROWS = 2**16


@dataclass(frozen=True)
class QueryTower:
    """A tower that queries can come from.

    Args:
        name: Name of the tower.
        modality: Its modality.
    """

    name: str
    modality: Modality

    @property
    def typed(self) -> bool:
        """Whether a query can be typed."""
        return self.modality.value_is_sample


class Session:
    """Queries to an embedded table.

    Args:
        model: The model that computed the table.
        table: The table.
        samples: Samples of the table's items.
        k: Number of answers.
        limits: Limits of one query.

    Raises:
        UserError: k is not positive, or the table is of another model.
    """

    def __init__(
        self, model: Aligner, table: EmbeddingTable, samples: TableSamples, *, k: int = 12, limits: Limits | None = None
    ) -> None:
        if not 1 <= k <= 100:
            raise UserError(f"k: expected 1 to 100, got {k}")
        if not len(table):
            raise UserError("expected a table with at least one row")
        if model.dim not in (table.vectors.dim, table.full_size):
            raise UserError(f"expected vectors of {model.dim} numbers, as of this model, got {table.vectors.dim}")
        self.model, self.table, self.samples, self.k, self.limits = model, table, samples, k, limits or Limits()
        self.filters = Filters(table, samples)
        self.towers = {name: QueryTower(name, model.modalities[name]) for name in model.towers if self._joined(name)}
        self._axes: PrincipalAxes | None = None

    @property
    def modality(self) -> Modality:
        """Modality of the table's rows."""
        return self.model.modalities[self.table.tower]

    def _joined(self, tower: str) -> bool:
        try:
            self.model.emergent_path(tower, self.table.tower)
        except UserError:
            return tower == self.table.tower
        return True

    def ask(
        self,
        tower: str,
        text: str = "",
        files: Sequence[Dropped] = (),
        *,
        labels: Sequence[str] = (),
        groups: Sequence[str] = (),
    ) -> Answers:
        """The best rows for a typed sample or for dropped files.

        Args:
            tower: Tower of the query.
            text: The typed sample; not used with files.
            files: The dropped files of one sample.
            labels: Only rows with one of these labels; none = all.
            groups: Only rows of one of these groups; none = all.

        Raises:
            BadSample: the sample cannot be read, or is beyond a limit.
            UserError: no such tower, or no row passes the filters.
        """
        if tower not in self.towers:
            raise UserError(f"expected a tower of {', '.join(self.towers)}, got {tower!r}")
        modality = self.towers[tower].modality
        sample = dropped_sample(modality, files, self.limits) if files else typed_sample(modality, text, self.limits)
        title = ", ".join(file.name for file in files) if files else f"typed {tower}"
        return self.search(self._query(tower, sample, title), labels=labels, groups=groups)

    def similar(self, row: int, *, labels: Sequence[str] = (), groups: Sequence[str] = ()) -> Answers:
        """The rows that resemble a row, without those of its own record; the filters are those of `ask`."""
        table = self.table
        if not 0 <= row < len(table):
            raise UserError(f"expected a row from 0 to {len(table) - 1}, got {row}")
        vector = Embedding(table.vectors.decode(torch.tensor([row])), tower=table.tower)
        uncertainty = table.uncertainties[row] if table.uncertainties else None
        query = Query(
            table.tower, self.sample(row), vector, f"row {table.ids[row]}", uncertainty, without=table.ids[row]
        )
        return self.search(query, labels=labels, groups=groups)

    def search(self, query: Query, *, labels: Sequence[str] = (), groups: Sequence[str] = ()) -> Answers:
        """The best rows of different content for an embedded query; the filters are those of `ask`."""
        rows = self.filters.rows(labels, groups)
        if query.without is not None:
            own = torch.tensor([at for at, name in enumerate(self.table.ids) if name == query.without])
            everything = torch.arange(len(self.table)) if rows is None else rows
            rows = everything[~torch.isin(everything, own)]
        count = len(self.table) if rows is None else len(rows)
        if not count:
            raise UserError("expected a row with these labels and groups, got none; choose fewer filters")
        scores, best = self._best(query.embedding, rows, self.k * EQUAL)
        found: dict[Any, Answer] = {}
        for score, row in zip(scores.tolist(), best.tolist(), strict=True):
            value = self.table.values[row]
            content = row if value is None or not self.modality.value_is_sample else value
            if content in found:
                found[content] = replace(found[content], equal_rows=found[content].equal_rows + 1)
            elif len(found) < self.k:
                found[content] = self._answer(row, score)
        return Answers(query, tuple(found.values()), count, self._score_note(query.tower))

    def _query(self, tower: str, sample: Any, title: str) -> Query:
        model, transform, size = self.model, self.model.transforms[tower], self.table.vectors.dim
        notes = []
        if isinstance(transform, Truncating) and transform.truncates(sample):
            notes.append(f"The query is longer than {transform.truncation}: its end is not read.")
        inputs = transform.collate([transform.item(sample)])
        with truncated_vectors(model, size if size < model.dim else None, (self.table.tower,)):
            embedded = model.embed_batches(tower, [(inputs, torch.tensor([0]))])
        assert embedded is not None
        embedding = embedded[0]
        uncertainty = None if embedding.log_variance is None else float(embedding.uncertainty[0])
        return Query(tower, sample, embedding, title, uncertainty, notes)

    def _best(self, query: Embedding, rows: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """Scores and indices of the best rows, of some rows or of all."""
        tower, vectors = self.table.tower, self.table.vectors
        vectors_only = self.model.scores_vectors_only(query.tower, tower)
        score = self.model.similarity if vectors_only else inner_product
        if rows is None:
            scores, best = best_rows(query, vectors, k, score=score, tower=tower, device=self.model.device)
            return scores[0], best[0]
        parts, places = [], []
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            part = replace(vectors, codes=vectors.codes[some])
            scores, best = best_rows(query, part, k, score=score, tower=tower, device=self.model.device)
            parts.append(scores[0])
            places.append(some[best[0]])
        order = torch.cat(parts).sort(descending=True, stable=True).indices[:k]
        return torch.cat(parts)[order], torch.cat(places)[order]

    def _answer(self, row: int, score: float) -> Answer:
        table = self.table
        record = self.samples.record(table.ids[row])
        uncertainty = table.uncertainties[row] if table.uncertainties else None
        group = "" if record is None or record.group is None else record.group
        return Answer(row, table.ids[row], score, uncertainty, table.labels[row], group, table.values[row])

    def _score_note(self, tower: str) -> str:
        path = self.model.emergent_path(tower, self.table.tower) if tower != self.table.tower else None
        if path:
            return emergent_note(path)
        if tower == self.table.tower or not self.model.scores_vectors_only(tower, self.table.tower):
            return "cosine of the vectors"
        return "similarity of the model"

    def sample(self, row: int) -> Any:
        """The sample of a row, as its modality reads it."""
        table = self.table
        return self.samples.get(table.ids[row], table.values[row], table.alternatives[row])

    def explain(self, answers: Answers, rank: int) -> Explanation:
        """Which words of one of query and answer correspond to which parts of the other.

        Args:
            answers: The answers.
            rank: Rank of the answer, from 1.

        Raises:
            UserError: no such rank, both are of one tower, or the model compares whole samples.
        """
        if not 1 <= rank <= len(answers.answers):
            raise UserError(f"expected a rank from 1 to {len(answers.answers)}, got {rank}")
        query, tower = answers.query, self.table.tower
        if query.tower == tower:
            raise UserError("samples of one tower are compared by their vectors: there are no words to explain them by")
        samples = {query.tower: query.sample, tower: self.sample(answers.answers[rank - 1].row)}
        pairs = [(pair.a, pair.b) for pair in self.model.pairs if {pair.a, pair.b} == set(samples)]
        a, b = pairs[0] if pairs else (query.tower, tower)
        return explain_samples(self.model, (a, b), [samples[a], samples[b]])

    def map(self, answers: Answers | None = None) -> "Figure | None":
        """The table on its first two principal components, with a query and its answers; None where there are none."""
        vectors, step = self.table.vectors, -(-len(self.table) // ON_MAP)
        rows = torch.arange(0, len(self.table), step)
        if len(rows) < 3 or vectors.dim < 2:
            return None
        shown = vectors.decode(rows).double().numpy()
        axes = self._axes = self._axes or PrincipalAxes.of(shown)
        labels = [self.table.labels[row] for row in rows.tolist()]
        query = found = None
        if answers is not None:
            query = axes.project(answers.query.embedding.vector.double().numpy())[0]
            places = torch.tensor([one.row for one in answers.answers], dtype=torch.long)
            found = axes.project(vectors.decode(places).double().numpy())
        names = [several[0] if len(several) == 1 else "" for several in labels]
        name = "query" if answers is None else f"query ({answers.query.tower})"
        return query_map(axes.project(np.asarray(shown)), names, axes, query=query, answers=found, query_name=name)
