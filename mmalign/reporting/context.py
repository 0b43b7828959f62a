"""What the pages of a report read: the model, its data, and the results of its evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmalign.capabilities import Explaining
from mmalign.data.dataset import Dataset
from mmalign.data.split import Split
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.evaluation.all_tasks import Evaluations
from mmalign.model import Aligner
from mmalign.reporting.blocks import Cell, Word
from mmalign.reporting.images import thumbnail, weighted_thumbnail

LONGEST_TEXT = 400


@dataclass
class Context:
    """The inputs of every page.

    Args:
        model: The model.
        run: The run folder with config.yaml and logs; None for a bundle alone.
        data: The data, with the split read.
        split: The evaluated split.
        pair: The two towers that are evaluated; empty for a model with one tower.
        evaluations: Results of the tasks, and the skipped tasks.
        settings: Settings of the tasks.
    """

    model: Aligner
    run: Path | None
    data: Dataset
    split: str
    pair: tuple[str, ...]
    evaluations: Evaluations
    settings: Mapping[str, Any]
    _thumbnails: dict[tuple[int, str, int], str] = field(default_factory=dict, repr=False)

    @property
    def part(self) -> Split:
        """The evaluated split."""
        return self.data.split(self.split)

    @property
    def embeddings(self) -> Mapping[str, EmbeddedSplit] | None:
        """Embeddings of both towers, as retrieval computed them; None without retrieval."""
        result = self.evaluations.results.get("retrieval")
        return None if result is None else result.details["embeddings"]

    def sample(self, row: int, tower: str, alternative: int = 0) -> Any:
        """A sample of the split, by the index of its record."""
        return self.data.store.get(self.part.indices[row], tower, alternative)

    def label(self, row: int) -> str:
        """Number of a record in the split, and its classes; never its file name."""
        classes = ", ".join(self.part.records[row].labels)
        return f"#{row}" + (f" · {classes}" if classes else "")

    def cell(self, row: int, tower: str, alternative: int = 0, **parts: Any) -> Cell:
        """A sample as a cell: a text as it is, any other drawn by its modality.

        Args:
            row: Index of the record in the split.
            tower: The tower.
            alternative: Index of the sample among the record's values.
            parts: `title`, `caption` and `mark` of the cell.
        """
        sample = self.sample(row, tower, alternative)
        if isinstance(sample, str):
            return Cell(text=shown_text(sample), **parts)
        key = (row, tower, alternative)
        if key not in self._thumbnails:
            self._thumbnails[key] = thumbnail(self.model.modalities[tower], sample)
        return Cell(source=self._thumbnails[key], text=f"{tower} {self.label(row)}", **parts)

    def weighted_cell(self, tower: str, sample: Any, labels: Any, weights: Any, **parts: Any) -> Cell:
        """A sample with one weight per unit: words as text, any other drawn by its modality.

        Args:
            tower: The tower.
            sample: The drawn sample.
            labels: `TokenLabels` of the sample.
            weights: Weight of each unit, at least 0.
            parts: `title`, `caption` and `mark` of the cell.
        """
        highest = max(float(max(weights, default=0.0)), 1e-12)
        if labels.spelled:
            words = [Word(str(one), float(w) / highest) for one, w in zip(labels.labels, weights, strict=True)]
            return Cell(words=words[:120], **parts)
        modality = self.model.modalities[tower]
        assert isinstance(modality, Explaining)
        shown = sample if labels.shown is None else labels.shown
        return Cell(source=weighted_thumbnail(modality, shown, [float(w) for w in weights]), text=tower, **parts)


def shown_text(text: str) -> str:
    """The text in at most 400 characters."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
