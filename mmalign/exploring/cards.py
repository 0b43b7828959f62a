"""HTML of answers and explanations: every string escaped, every sample drawn by its modality."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mmalign.errors import BadSample, UserError
from mmalign.exploring.answers import Answer, Answers
from mmalign.exploring.session import Session
from mmalign.modality import Modality
from mmalign.reporting.blocks import Cell, number
from mmalign.reporting.context import shown_text
from mmalign.reporting.images import FIGURE_DPI, data_uri, thumbnail

if TYPE_CHECKING:
    from jinja2 import Template

LARGE = (6.0, 4.5)
"""Width and height of a sample in an explanation, in inches."""

# Gradio fills templates of its own: what its syntax consists of becomes entities, which a browser shows as they are.
_INERT = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


def answers_html(session: Session, answers: Answers) -> str:
    """The query and its ranked answers, each with buttons `explain` and `similar`."""
    query = answers.query
    uncertainty = "" if query.uncertainty is None else f"uncertainty {query.uncertainty:.4g}"
    card = _cell(session.towers[query.tower].modality, query.sample, query.tower, title="query", caption=uncertainty)
    margin = "" if answers.margin is None else f" First two scores differ by {number(answers.margin)}."
    notes = [*query.notes, f"{answers.searched:,} rows compared. Score: {answers.score}.{margin}"]
    cells = [_answer_cell(session, one, rank) for rank, one in enumerate(answers.answers, 1)]
    return _render(title=f"Answers to {query.title}", notes=notes, query=card, answers=cells)


def explanation_html(session: Session, answers: Answers, rank: int) -> str:
    """Query and answer drawn large, and which words correspond to which parts where the model compares tokens."""
    answer, query = answers.answers[rank - 1], answers.query
    figure, alt = "", ""
    try:
        explanation = session.explain(answers, rank)
        figure = data_uri(explanation.figure(), FIGURE_DPI)
        words = ", ".join(f"{one.word} {one.mass:.0%}" for one in explanation.attributions)
        alt = f"Words of {explanation.query.tower} and their share of the correspondence: {words}."
        notes = [alt, f"By the term {explanation.term}; score with tokens {number(explanation.score)}."]
    except (UserError, BadSample) as error:
        notes = [f"No explanation by words: {error}."]
    asked = session.towers[query.tower].modality
    left = _cell(asked, query.sample, query.tower, size=LARGE, title="query")
    right = _sample_cell(session, answer, size=LARGE, title=f"answer {rank}", caption=answer.name)
    return _render(
        title=f"Answer {rank}: {answer.name}, score {number(answer.score)}", notes=notes, query=left, large=right,
        figure=figure, alt=alt,
    )  # fmt: skip


def heading_html(session: Session) -> str:
    """What is searched."""
    rows = f"{len(session.table):,} rows of the tower {session.table.tower}"
    asked = ", ".join(f"{name} ({tower.modality.name})" for name, tower in session.towers.items())
    return _render(title="mmalign explore", notes=[f"{rows}. Queries of: {asked}."])


def map_html(session: Session, answers: Answers | None) -> str:
    """The map of the table, with the query and its answers."""
    drawn = session.map(answers)
    if drawn is None:
        return _render(notes=["A map needs three rows and two coordinates."])
    asked = "" if answers is None else f", the query {answers.query.title} as a star and its answers as rings"
    alt = f"Rows of {session.table.tower} on their first two principal components{asked}."
    notes = ["First two principal components of the rows. Queries of another tower can lie apart (modality gap)."]
    return _render(figure=data_uri(drawn, FIGURE_DPI), alt=alt, notes=notes)


def message_html(text: str) -> str:
    """A message about what went wrong."""
    return _render(error=text)


def _answer_cell(session: Session, answer: Answer, rank: int) -> Cell:
    known = "" if answer.uncertainty is None else f", uncertainty {answer.uncertainty:.4g}"
    more = f"; {answer.equal_rows} more of equal content" if answer.equal_rows else ""
    group = f" · group {answer.group}" if answer.group and session.filters.groups else ""
    return _sample_cell(
        session, answer, title=f"{rank}. {number(answer.score)}{known}", caption=f"{answer.name}{group}{more}"
    )


def _sample_cell(session: Session, answer: Answer, **parts: Any) -> Cell:
    """The sample of an answer; one that cannot be read is an answer all the same."""
    try:
        return _cell(session.modality, session.sample(answer.row), f"{session.table.tower} {answer.name}", **parts)
    except (BadSample, UserError, OSError) as error:
        parts.pop("size", None)
        return Cell(text=shown_text(f"not drawn: {error}"), **parts)


def _cell(modality: Modality, sample: Any, alt: str, *, size: tuple[float, float] | None = None, **parts: Any) -> Cell:
    if isinstance(sample, str):
        return Cell(text=sample if size else shown_text(sample), **parts)
    source = thumbnail(modality, sample, size) if size else thumbnail(modality, sample)
    return Cell(source=source, text=alt, **parts)


def _render(**parts: Any) -> str:
    return _template().render(parts).translate(_INERT)


@cache
def _template() -> "Template":
    from jinja2 import Environment

    text = (files("mmalign.exploring") / "template" / "cards.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
