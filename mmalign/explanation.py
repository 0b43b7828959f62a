"""Explanation of a similarity: token correspondence of two samples, such as words and atoms, patches or beats."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mmalign.capabilities import Explaining, TokenLabels, capability
from mmalign.errors import UserError
from mmalign.heads import HeadSet
from mmalign.inference import inference, inputs_to
from mmalign.modality import Encoder
from mmalign.model import Aligner
from mmalign.objectives.correspondence import Coded
from mmalign.objectives.functional.token_correspondence import code_shares
from mmalign.pictures import save
from mmalign.pictures.correspondence import MOST, Answer, Numbers, answers, correspondence_figure
from mmalign.types import Embedding, Tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Side:
    """One sample of the pair: its tower, the sample as read, and the labels of its tokens."""

    name: str
    sample: Any
    units: TokenLabels

    @property
    def shown(self) -> Any:
        """The drawn sample."""
        return self.sample if self.units.shown is None else self.units.shown


@dataclass(frozen=True)
class Explanation:
    """Correspondence between words of the query sample and units of the drawn sample.

    Args:
        model: The model, whose modalities draw.
        drawn: The sample that is drawn, once for each word.
        asking: The query sample.
        weights: `(entries of drawn, entries of asking)`, the objective's correspondence.
        answers: The most informative words, see `pictures.correspondence.answers`.
        term: The label of the objective's term.
        score: Similarity of the pair.
    """

    model: Aligner
    drawn: Side
    asking: Side
    weights: Tensor
    answers: list[Answer]
    term: str
    score: float

    def figure(self) -> "Figure":
        """The query sample as coloured words, and the other sample drawn once per word."""
        draw = capability(self.model.modalities[self.drawn.name], Explaining, "explain").weighted_picture
        ask = self.model.modalities[self.asking.name].picture

        def drawn(axes: "Axes", weights: Numbers) -> None:
            draw(self.drawn.shown, axes, weights.tolist())

        def asking(axes: "Axes") -> None:
            ask(self.asking.shown, axes)

        return correspondence_figure(
            self.answers, self.drawn.units, self.asking.units, draw=drawn, draw_asking=asking,
            sides=(self.drawn.name, self.asking.name), title=f"{self.term}: score {self.score:.3f}",
        )  # fmt: skip

    def draw(self, path: Path | str) -> Path:
        """Save the figure."""
        return save(self.figure(), path)

    def show(self) -> None:
        """Print the words, each with its fraction of the mass and its strongest unit."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(f"{self.asking.name} to {self.drawn.name} by {self.term}, score {self.score:.4f}"))
        for name in ("share", self.asking.name, f"most to ({self.drawn.name})", "nats"):
            table.add_column(name, justify="right" if name in ("share", "nats") else "left")
        for one in self.answers:
            order = np.argsort(-one.weights, kind="stable")[:3]
            most = ", ".join(f"{self.drawn.units.labels[i]} {one.weights[i]:.0%}" for i in order if one.weights[i] > 0)
            table.add_row(f"{one.share:.1%}", Text(one.name[:60]), Text(most), f"{one.said:.4f}")
        Console().print(table)


def explain(model: Aligner, a: Any, b: Any, *, sides: tuple[str, str], term: str = "", most: int = MOST) -> Explanation:
    """Explain the similarity of two samples by the token correspondence of the model's objective.

    The query is the sample whose labels are words (else the second one, if the first can be drawn with weights); the
    other sample is drawn.

    Args:
        model: A model with an objective that compares tokens: transport, late_interaction, fdt or local.
        a: The first sample: a path, a string, an array.
        b: The second sample.
        sides: Their towers.
        term: Term of the pair: the name of its objective, or its label.
        most: Maximum number of words.

    Raises:
        BadSample: a sample cannot be read.
        UserError: no term compares tokens, or neither modality can be drawn with weights.
    """
    if not 1 <= most <= MOST:
        raise UserError(f"most: expected 1 to {MOST}, got {most}")
    sample_a, sample_b = (model.modalities[side].read(item) for side, item in zip(sides, (a, b), strict=True))
    with inference(model):
        one, other = (_embed(model, side, x) for side, x in zip(sides, (sample_a, sample_b), strict=True))
        score = float(model.similarity(one, other)[0, 0])
        found = model.correspondence(one, other, term)
    levels = found.level_a, found.level_b
    both = [
        _side(model, side, sample, level, count)
        for side, sample, level, count in zip(sides, (sample_a, sample_b), levels, found.weights.shape, strict=True)
    ]
    first = _drawn(both)
    drawn, asking = both[first][0], both[1 - first][0]
    weights = (found.weights if first == 0 else found.weights.T).cpu()
    best = answers(weights, drawn.units, asking.units, parts=levels[1 - first] == "parts", most=most)
    return Explanation(model, drawn, asking, weights, best, found.term, score)


def _embed(model: Aligner, name: str, sample: Any) -> Embedding:
    """Embed one sample on the model's device; with codes, also the codes of each token."""
    transform, heads = model.transforms[name], model.heads[name]
    inputs = transform.collate([transform.item(sample)])
    moved = inputs_to(inputs, model.device)
    assert isinstance(heads, HeadSet)
    if heads.queries is None or model.codebook is None:
        return model.embed(name, moved)
    asked: list[Tokens] = []
    hook = heads.queries.register_forward_hook(lambda _, __, made: asked.append(made))
    try:
        made = model.embed(name, moved)
    finally:
        hook.remove()
    assert made.codes is not None
    queries = asked[0]
    shares = code_shares(queries.values[0], queries.mask[0], model.codebook.codes, made.codes[0])
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(Embedding)}
    return Coded(**fields, token_codes=Tokens(shares[None], queries.mask))


def _side(model: Aligner, name: str, sample: Any, level: str, count: int) -> tuple[Side, bool]:
    """A sample with the labels of its tokens, and whether it can be drawn with weights."""
    modality, encoder = model.modalities[name], model.encoders[name]
    assert isinstance(encoder, Encoder)
    if isinstance(modality, Explaining):
        labels = modality.token_labels(sample, model.transforms[name], encoder, level, count)
        if labels is not None:
            return Side(name, sample, labels), True
    return Side(
        name, sample, TokenLabels([f"{level[:-1]} {place + 1}" for place in range(count)], np.eye(count))
    ), False


def _drawn(sides: Sequence[tuple[Side, bool]]) -> int:
    """Index of the drawn sample: one that can be drawn, preferably not words, preferably the first."""
    able = [place for place, (_, drawable) in enumerate(sides) if drawable]
    if not able:
        names = " and ".join(side.name for side, _ in sides)
        raise UserError(
            f"neither of {names} can be drawn with weights: its modality must label the encoder's tokens "
            "(`capabilities.Explaining`: token_labels and weighted_picture)"
        )
    return min(able, key=lambda place: (sides[place][0].units.spelled, place))
