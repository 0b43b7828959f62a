"""`mmalign.classify`: files without labels -> the class whose prompts are most similar, with probabilities."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.data.truncation import TruncationCounter
from mmalign.errors import BadSample, UserError
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.settings import prompt_towers
from mmalign.model import Aligner
from mmalign.safe_io.printable import printable
from mmalign.safe_io.safe_writing import replaced
from mmalign.selection import model_of, pair_of
from mmalign.types import Inputs

MAX_FILES = 10**6


@dataclass(frozen=True)
class Classification:
    """The class of each sample.

    Args:
        samples: The samples: paths, strings or arrays.
        classes: Names of the classes.
        probabilities: Softmax over the classes of score times the learnt scale, `(samples, classes)`; NaN where the
            sample cannot be read.
        problems: Index of a sample that cannot be read -> what was expected, and what came.
    """

    samples: Sequence[Any]
    classes: Sequence[str]
    probabilities: Tensor
    problems: Mapping[int, str] = field(default_factory=dict)

    @property
    def predictions(self) -> list[str | None]:
        """Name of the most probable class of each sample; None where it cannot be read."""
        best = self.probabilities.nan_to_num(-1.0).argmax(dim=1).tolist()
        return [None if index in self.problems else self.classes[k] for index, k in enumerate(best)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dictionary per sample: `sample`, `prediction`, `probability`, `entropy`, `p/CLASS` and `problem`."""
        entropy = -torch.special.xlogy(self.probabilities, self.probabilities).sum(dim=1)
        for index, name in enumerate(self.predictions):
            row = {"sample": _name(self.samples[index]), "prediction": name}
            if name is None:
                blank = dict.fromkeys(["probability", "entropy", *(f"p/{one}" for one in self.classes)])
                yield row | blank | {"problem": self.problems[index]}
                continue
            values = self.probabilities[index].tolist()
            each = {f"p/{one}": value for one, value in zip(self.classes, values, strict=True)}
            yield row | {"probability": max(values), "entropy": float(entropy[index])} | each | {"problem": None}

    def write(self, path: Path | str) -> None:
        """Write the rows as CSV; numbers with six digits."""
        with replaced(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            names = ["sample", "prediction", "probability", "entropy", *(f"p/{one}" for one in self.classes), "problem"]
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for row in self.rows():
                writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()})

    def show(self, most: int = 20) -> None:
        """Print the first samples with their class and probability, and the number of samples of each class."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("sample", "class", "probability", title=f"the first of {len(self.samples)} samples")
        for row, _ in zip(self.rows(), range(most), strict=False):
            shown = (row["problem"], "") if row["problem"] else (row["prediction"], f"{row['probability']:.3f}")
            table.add_row(*(Text(printable(cell)) for cell in (row["sample"], *shown)))
        counts = Table("class", "samples")
        predictions = self.predictions
        for name in self.classes:
            counts.add_row(Text(printable(name)), str(predictions.count(name)))
        if self.problems:
            counts.add_row("cannot be read", str(len(self.problems)))
        Console().print(table, counts)


def classify(
    model: Aligner | str | Path,
    samples: Sequence[Any],
    classes: Sequence[str] = (),
    *,
    prompts: Prompts | str | Path | None = None,
    pair: Sequence[str] = (),
    score: str = "",
    batch_size: int = 64,
    device: str = "auto",
) -> Classification:
    """Zero-shot classification of samples without labels: each gets the class whose prompts are most similar.

    Args:
        model: A model, or the path of a bundle or run.
        samples: Samples of one tower: paths of files, strings where a string is a sample, or arrays. A folder stands
            for all files in it, where the tower reads files.
        classes: Names of the classes, when `prompts` has no `classes`.
        prompts: Templates and class texts, or their YAML file; default: the names are the prompts.
        pair: The two towers; default: the only pair that the model was trained on. Of the two, the last one whose
            samples are strings reads the prompts.
        score: Another score of the pair's objective, such as mean or codes; "" = as trained.
        batch_size: Samples per forward pass.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Returns:
        Predictions and probabilities; `write` stores them as CSV. A sample that cannot be read has a problem instead.

    Raises:
        UserError: fewer than two classes, no sample, or no tower that reads prompts.

    Example:
        >>> import mmalign
        >>> found = mmalign.classify("runs/first", ["a.png"], ["a three", "a seven"])  # doctest: +SKIP
        >>> found.predictions  # doctest: +SKIP
        ['a seven']
    """
    loaded = model_of(model, device)
    tower, class_tower = prompt_towers(loaded, pair_of(loaded, pair), "classify")
    prompt_set = Prompts.load(prompts) if isinstance(prompts, str | Path) else prompts or Prompts()
    names = list(prompt_set.classes) if prompt_set.classes and not classes else list(dict.fromkeys(classes))
    if len(names) < 2:
        raise UserError(f"classify needs at least two classes, got {len(names)}: name them with --classes or --prompts")
    if prompt_set.classes:
        prompt_set.names(names)  # a class that the prompts lack
    texts = [prompt_set.texts(name) for name in names]
    sentences = PromptEmbeddings(loaded, class_tower, [text for several in texts for text in several], score=score)
    listed = samples if loaded.modalities[tower].value_is_sample else list(_files(samples))
    if not len(listed):
        raise UserError("classify needs at least one sample, got none")
    problems: dict[int, str] = {}
    cut = TruncationCounter(tower, loaded.transforms[tower])

    def batches() -> Iterator[tuple[Inputs, Tensor]]:
        for start in range(0, len(listed), batch_size):
            items = dict[int, Any]()
            for index in range(start, min(start + batch_size, len(listed))):
                try:
                    items[index] = loaded.transforms[tower].item(cut.add(loaded.modalities[tower].read(listed[index])))
                except BadSample as error:
                    problems[index] = f"expected {error.expected}, got {error.came}"
            if items:
                yield loaded.transforms[tower].collate([*items.values()]), torch.tensor([*items])

    embedded = loaded.embed_batches(tower, batches())
    cut.warn()
    probabilities = torch.full((len(listed), len(names)), torch.nan, dtype=torch.float64)
    if embedded is not None:
        scores = sentences.class_scores(embedded[0], texts).double()
        probabilities[embedded[1]] = (loaded.logit_scale(tower, class_tower) * scores).softmax(dim=1)
    return Classification(listed, names, probabilities, problems)


def _files(samples: Sequence[Any]) -> Iterator[Any]:
    """The samples, with the files of each folder in its place, sorted by name."""
    count = 0
    for sample in samples:
        if not (isinstance(sample, str | Path) and Path(sample).is_dir()):
            yield sample
            continue
        for folder, below, files in os.walk(sample):
            below.sort()
            for file in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
                if file.is_file():  # not a pipe or a device
                    count += 1
                    if count > MAX_FILES:
                        raise UserError(f"{sample}: expected at most {MAX_FILES} files; name fewer folders")
                    yield str(file)


def _name(sample: Any) -> str:
    return str(sample) if isinstance(sample, str | Path) else f"a {type(sample).__name__}"
