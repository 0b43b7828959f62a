"""Explanation of a similarity: token correspondence of two samples, such as words and atoms, patches or beats."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mmalign import recipes, registry
from mmalign.capabilities import Explaining, TokenLabels, capability
from mmalign.embedding.token_pairs import LabelledSample, embed_tokens, label_tokens
from mmalign.errors import UserError
from mmalign.inference import inference
from mmalign.model import Aligner
from mmalign.objectives.objective import Objective
from mmalign.objectives.parts.correspondence import Coded
from mmalign.pictures import save
from mmalign.pictures.correspondence import MAX_WORDS, Attribution, Numbers, attributions, correspondence_figure
from mmalign.safe_io.printable import printable
from mmalign.selection import model_of, pair_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Explanation:
    """Correspondence between words of the query sample and units of the drawn sample.

    Args:
        model: The model, whose modalities draw.
        drawn: The sample that is drawn, once for each word.
        query: The query sample.
        weights: `(entries of drawn, entries of query)`, the objective's correspondence.
        attributions: The most informative words, see `pictures.correspondence.attributions`.
        term: The label of the objective's term.
        score: Similarity of the pair.
    """

    model: Aligner
    drawn: LabelledSample
    query: LabelledSample
    weights: Tensor
    attributions: list[Attribution]
    term: str
    score: float

    def figure(self) -> "Figure":
        """The query sample as coloured words, and the other sample drawn once per word."""
        weighted_picture = capability(self.model.modalities[self.drawn.tower], Explaining, "explain").weighted_picture
        picture = self.model.modalities[self.query.tower].picture

        def draw(axes: "Axes", weights: Numbers) -> None:
            weighted_picture(self.drawn.shown, axes, weights.tolist())

        def draw_query(axes: "Axes") -> None:
            picture(self.query.shown, axes)

        return correspondence_figure(
            self.attributions, self.drawn.units, self.query.units, draw=draw, draw_query=draw_query,
            towers=(self.drawn.tower, self.query.tower), title=f"{self.term}: score {self.score:.3f}",
        )  # fmt: skip

    def draw(self, path: Path | str) -> Path:
        """Save the figure."""
        return save(self.figure(), path)

    def show(self) -> None:
        """Print the words: fraction of the mass, largest weights, and term of the mutual information."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        query, drawn = self.query.tower, self.drawn.tower
        table = Table(title=Text(f"{query} to {drawn} by {self.term}, score {self.score:.4f}"))
        table.add_column(query)
        table.add_column("mass", justify="right")
        table.add_column(f"largest weights ({drawn})")
        table.add_column("information (nats)", justify="right")
        for one in self.attributions:
            order = np.argsort(-one.weights, kind="stable")[:3]
            units = [f"{self.drawn.units.labels[i]} {one.weights[i]:.0%}" for i in order if one.weights[i] > 0]
            table.add_row(
                Text(printable(one.word[:60])),
                f"{one.mass:.1%}",
                Text(printable(", ".join(units))),
                f"{one.information:.4f}",
            )
        Console().print(table)


def explain(
    model: Aligner | str | Path,
    a: Any,
    b: Any,
    *,
    pair: Sequence[str] = (),
    term: str = "",
    most: int = MAX_WORDS,
    device: str = "auto",
) -> Explanation:
    """Explain the similarity of two samples by the token correspondence of the model's objective.

    The query is the sample whose labels are words (else the second one, if the first can be drawn with weights); the
    other sample is drawn.

    Args:
        model: A model with an objective that compares tokens (transport, late_interaction, fdt or local), or the path
            of its bundle or run.
        a: Sample of the pair's first tower: a path, a string, an array.
        b: Sample of the second tower.
        pair: The two towers; default: the only pair that the model was trained on.
        term: Term of the pair: the name of its objective, or its label; "" = the first that compares tokens.
        most: Maximum number of words.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Raises:
        BadSample: a sample cannot be read.
        UserError: no term compares tokens, or neither modality can be drawn with weights.
    """
    if not 1 <= most <= MAX_WORDS:
        raise UserError(f"most: expected 1 to {MAX_WORDS}, got {most}")
    loaded = model_of(model, device)
    towers = pair_of(loaded, pair)
    samples = [loaded.modalities[tower].read(sample) for tower, sample in zip(towers, (a, b), strict=True)]
    return explain_samples(loaded, towers, samples, term=term, most=most)


def explain_samples(
    loaded: Aligner, towers: tuple[str, str], samples: Sequence[Any], *, term: str = "", most: int = MAX_WORDS
) -> Explanation:
    """As `explain`, of two samples as their modalities read them."""
    _require_tokens(loaded, towers)
    with inference(loaded):
        embedding_a, embedding_b = (embed_tokens(loaded, *one) for one in zip(towers, samples, strict=True))
        score = float(loaded.similarity(embedding_a, embedding_b)[0, 0])
        correspondence = loaded.correspondence(embedding_a, embedding_b, term)
    levels, weights = (correspondence.level_a, correspondence.level_b), correspondence.weights
    labelled = [label_tokens(loaded, *one) for one in zip(towers, samples, levels, weights.shape, strict=True)]
    index = _index_of_drawn(labelled)
    drawn, query = labelled[index][0], labelled[1 - index][0]
    weights = (weights if index == 0 else weights.T).cpu()
    parts = levels[1 - index] == "parts"
    words = attributions(weights, drawn.units, query.units, parts=parts, most=most)
    return Explanation(loaded, drawn, query, weights, words, correspondence.term, score)


def code_contributions(model: Aligner, tower: str, sample: Any, code: int) -> tuple[TokenLabels, Numbers]:
    """Labels of a sample's units, and the contribution of each unit to one code of the codebook, `(units,)`.

    Args:
        model: A model with a codebook.
        tower: The tower.
        sample: As `Modality.read` returns it.
        code: Index of the code.

    Raises:
        UserError: the tower has no codes by token, or its tokens have no labels.
    """
    with inference(model):
        embedded = embed_tokens(model, tower, sample)
    if not isinstance(embedded, Coded) or embedded.token_codes is None:
        raise UserError(f"{tower}: expected codes by token, as the objective fdt has them")
    tokens = embedded.token_codes
    shares = tokens.values[0, :, code].double() * tokens.mask[0]
    # Of reduced tokens: distributed over those that they were pooled from.
    shares = shares[tokens.mask[0]] if tokens.origin is None else tokens.origin[0].mT.double() @ shares
    contributions: Numbers = shares.cpu().numpy()
    labelled, can_be_drawn = label_tokens(model, tower, sample, "tokens", len(contributions))
    if not can_be_drawn:
        raise UserError(f"{tower}: the encoder's tokens have no labels")
    return labelled.units, np.maximum(labelled.units.members @ contributions, 0.0)


def _require_tokens(model: Aligner, towers: Sequence[str]) -> None:
    """Raise an error that names recipes to train, if every term of these towers compares whole samples."""
    objectives = sorted({pair.objective for pair in model.pairs if {pair.a, pair.b} == set(towers)})
    if not objectives or any(map(_compares_tokens, objectives)):
        return
    known = recipes.between(*(model.modalities[tower].name for tower in towers))
    able = [name for name, used in known.items() if any(map(_compares_tokens, used))]
    advice = (
        f"train a recipe that compares tokens: mmalign train {' or '.join(able)}"
        if able
        else "train a pair with an objective that compares tokens: transport, late_interaction, token_mean, fdt, local"
    )
    raise UserError(
        f"{' and '.join(objectives)} compares whole samples, so this model has no correspondence of {towers[0]} and "
        f"{towers[1]} to explain; {advice}"
    )


def _compares_tokens(objective: str) -> bool:
    kind = registry.load("objectives", objective)
    return bool(kind.correspondence is not Objective.correspondence)


def _index_of_drawn(samples: Sequence[tuple[LabelledSample, bool]]) -> int:
    """Index of the drawn sample: one that can be drawn, preferably not words, preferably the first."""
    drawable = [index for index, (_, can_be_drawn) in enumerate(samples) if can_be_drawn]
    if not drawable:
        names = " and ".join(sample.tower for sample, _ in samples)
        raise UserError(
            f"neither of {names} can be drawn with weights: its modality must label the encoder's tokens "
            "(`capabilities.Explaining`: token_labels and weighted_picture)"
        )
    return min(drawable, key=lambda index: (samples[index][0].units.spelled, index))
