"""The results of a search: as JSON values, as tables on the screen, and as a figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mmalign.data.config import DataConfig
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.objectives.parts.shared_space import emergent_note
from mmalign.pictures import retrieval_grid, save
from mmalign.safe_io.printable import printable
from mmalign.searching.samples import TableSamples, is_sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Hit(NamedTuple):
    """One search result.

    Args:
        id: Id of the record.
        score: Similarity with the query, higher = more similar.
        value: The raw string of the item, a sentence or a file name; None if it was not a string.
        uncertainty: Uncertainty of the item, see `Embedding.uncertainty`; None if the table has none.
    """

    id: str
    score: float
    value: str | None
    uncertainty: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """The nearest rows of each query.

    Args:
        model: The model, whose modalities draw.
        queries: The queries.
        hits: The results of each query, in descending order of score.
        tower: The queries' tower.
        gallery: The tower of the results.
        uncertainties: Uncertainty of each query, see `Embedding.uncertainty`; None if the model has none.
    """

    model: Aligner
    queries: Sequence[Any]
    hits: Sequence[Sequence[Hit]]
    tower: str
    gallery: str
    uncertainties: Sequence[float] | None = None

    def to_json(self) -> list[dict[str, Any]]:
        """The results as JSON values: one entry per query."""
        entries: list[dict[str, Any]] = []
        for query, uncertainty, hits in self._each():
            answers = [
                {name: value for name, value in hit._asdict().items() if name != "uncertainty" or value is not None}
                for hit in hits
            ]
            own = {} if uncertainty is None else {"uncertainty": uncertainty}
            entries.append({"query": query, **own, "answers": answers})
        return entries

    def show(self) -> None:
        """Print the results of each query as a table."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        path = self.model.emergent_path(self.tower, self.gallery)
        if path and len(path) > 1:
            print(f"score: {emergent_note(path)}")
        console = Console()
        for query, uncertainty, hits in self._each():
            own = "" if uncertainty is None else f" (uncertainty {uncertainty:.4g})"
            table = Table(title=Text(printable(query) + own, overflow="fold"), title_justify="left")
            columns: dict[str, list[str]] = {
                "rank": [str(rank) for rank in range(1, len(hits) + 1)],
                "score": [f"{hit.score:.4f}" for hit in hits],
            }
            if any(hit.uncertainty is not None for hit in hits):
                columns["uncertainty"] = ["" if hit.uncertainty is None else f"{hit.uncertainty:.4g}" for hit in hits]
            columns["id"] = [printable(hit.id) for hit in hits]
            if any(hit.value for hit in hits):
                columns["value"] = [printable(hit.value or "") for hit in hits]
            for name in columns:  # a long word, such as a SMILES, is folded, not cut
                table.add_column(name, justify="left" if name in ("id", "value") else "right", overflow="fold")
            for cells in zip(*columns.values(), strict=True):
                table.add_row(*map(Text, cells))  # Text, not markup: a caption may contain brackets
            console.print(table)

    def _each(self) -> Iterator[tuple[Any, float | None, Sequence[Hit]]]:
        uncertainties: Sequence[float | None] = self.uncertainties or [None] * len(self.hits)
        return zip(self.queries, uncertainties, self.hits, strict=True)

    def figure(self, data: DataConfig | None = None) -> "Figure":
        """Draw queries and results, each result with its id and score.

        Args:
            data: The embedded data; not needed where a string is itself a sample, such as a SMILES.

        Raises:
            BadSample: a result cannot be read.
            UserError: the data is needed and does not have the record, or with another value; or there is too much to
                draw.
        """
        if not self.hits or not self.hits[0]:
            raise UserError("nothing was found, so there is nothing to draw")
        modality = self.model.modalities[self.gallery]
        samples = TableSamples(modality, self.gallery, None)
        if not all(hit.value is not None and is_sample(modality, hit.value) for hits in self.hits for hit in hits):
            if data is None:
                raise UserError(f"samples of {self.gallery!r} are files: to draw them, give the data that was embedded")
            samples = TableSamples.open(self.model, self.gallery, data)
        return retrieval_grid(
            [self.model.modalities[self.tower].read(query) for query in self.queries],
            [[samples.get(hit.id, hit.value) for hit in hits] for hits in self.hits],
            scores=torch.tensor([[hit.score for hit in hits] for hits in self.hits]),
            relevant=None,
            names=[[hit.id for hit in hits] for hits in self.hits],
            draw_query=self.model.modalities[self.tower].picture,
            draw_answer=modality.picture,
            title=f"{self.tower} to {self.gallery}: nearest items, each with score and id",
        )

    def draw(self, path: Path | str, data: DataConfig | None = None) -> Path:
        """Save the figure; the arguments are those of `figure`."""
        return save(self.figure(data), path)
