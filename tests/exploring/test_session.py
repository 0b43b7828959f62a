"""The explorer's session: answers, filters, export, explanation and map, without a page."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mmalign
from mmalign.errors import BadSample, UserError
from mmalign.exploring.answers import COLUMNS
from mmalign.exploring.cards import answers_html, explanation_html, map_html, message_html
from mmalign.exploring.explore import open_session
from mmalign.exploring.session import Session
from tests.exploring.conftest import HOSTILE, Served


def test_answers_are_those_of_search(served: Served, session: Session) -> None:
    asked = "a red disc 3"
    answers = session.ask("words", asked).answers
    hits = mmalign.search(served.bundle, [asked], tower="words", index=served.table, k=24).hits[0]
    assert answers[0].value == asked
    assert [one.score for one in answers] == sorted((one.score for one in answers), reverse=True)
    expected = {hit.value: hit.score for hit in reversed(hits)}
    assert {one.value: pytest.approx(one.score, abs=1e-5) for one in answers}.items() <= expected.items()


def test_rows_of_equal_content_are_one_answer(session: Session) -> None:
    answers = session.ask("words", "a red disc 3").answers
    assert len({one.value for one in answers}) == len(answers) == 5
    assert answers[0].equal_rows == 1


def test_filters_restrict_the_compared_rows(session: Session) -> None:
    assert session.filters.groups == [f"patient {k}" for k in range(6)]
    assert session.filters.labels == sorted(["cats", HOSTILE])
    answers = session.ask("words", "a red disc 3", labels=["cats"], groups=["patient 1", "patient 2"])
    assert answers.searched == 4
    assert {one.id for one in answers.answers} == {"r4", "r6", "r8", "r10"}
    assert {one.group for one in answers.answers} == {"patient 1", "patient 2"}
    with pytest.raises(UserError, match="choose fewer filters"):
        session.ask("words", "a red disc 3", groups=["patient 99"])


def test_similar_rows_leave_out_the_own_record(session: Session) -> None:
    answers = session.similar(4)
    assert answers.query.title == "row r4"
    assert answers.searched == 23
    assert "r4" not in {one.id for one in answers.answers}


def test_queries_of_towers_that_share_no_space_are_not_offered(session: Session) -> None:
    assert set(session.towers) == {"left", "right", "words"}
    with pytest.raises(UserError, match="expected a tower of"):
        session.ask("middle", "a red disc")


def test_a_typed_name_of_a_file_is_not_opened(session: Session, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(8, np.float32))
    with pytest.raises(UserError, match="expected a file of the modality vector"):
        session.ask("left", str(tmp_path / "a.npy"))


def test_a_long_query_is_refused(session: Session) -> None:
    with pytest.raises(BadSample, match=r"at most 20,000 characters, got 100,000"):
        session.ask("words", "C" * 100_000)


def test_export_has_a_row_per_answer(session: Session, tmp_path: Path) -> None:
    answers = session.ask("words", "two cats")
    with answers.write(tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == [one.id for one in answers.answers]
    assert rows[0]["score"] == f"{answers.answers[0].score:.6g}"


def test_captions_labels_and_messages_are_escaped(session: Session) -> None:
    answers = session.ask("words", HOSTILE)
    assert answers.answers[0].value == HOSTILE
    for html in (answers_html(session, answers), explanation_html(session, answers, 1), message_html(HOSTILE)):
        assert "window.hacked" in html
        assert "<script" not in html
        assert "<img src=x" not in html
        assert not {"{", "}", "$", "`"} & set(html)


def test_a_model_that_compares_whole_samples_says_so(session: Session) -> None:
    answers = session.similar(0)
    assert "samples of one tower are compared by their vectors" in explanation_html(session, answers, 1)


def test_the_map_shows_the_query(session: Session) -> None:
    answers = session.ask("words", "two cats")
    drawn = session.map(answers)
    assert drawn is not None
    stars = [one for one in drawn.axes[0].collections if one.get_label() == "query (words)"]
    axes = session._axes
    assert axes is not None
    expected = (answers.query.embedding.vector.double().numpy() - axes.mean) @ axes.directions.T
    assert np.allclose(stars[0].get_offsets(), expected)
    assert 'alt="Rows of words on their first two principal components' in map_html(session, answers)


def test_a_table_of_files_needs_data(served: Served, model: mmalign.Aligner) -> None:
    table = replace(mmalign.embed(model, served.data, "left"), values=["a.npy"] * 24)
    with pytest.raises(UserError, match=r"name the embedded data with --data"):
        open_session(model, table)


def test_a_tower_is_embedded_at_start(served: Served) -> None:
    session = open_session(served.bundle, "left", served.data, k=3)
    assert session.table.tower == "left"
    assert len(session.similar(0).answers) == 3
    with pytest.raises(UserError, match="name the data"):
        open_session(served.bundle, "left")


def test_parts_of_a_filtered_table_give_the_same_answers(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    query = session.ask("words", "a red disc 7").query.embedding
    rows = torch.arange(24)
    whole = session._best(query, None, 6)
    monkeypatch.setattr("mmalign.exploring.session._ROWS", 5)
    parts = session._best(query, rows, 6)
    assert torch.allclose(whole[0], parts[0], atol=1e-6)
    assert {*whole[1].tolist()} == {*parts[1].tolist()}  # equal captions may change places
