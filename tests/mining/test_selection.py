"""Which candidates become negatives: by hand."""

import math

import numpy as np
import pytest

from mmalign.errors import UserError
from mmalign.mining.selection import Candidates, Counts, Selection, choose

SCORES = np.array([0.95, 0.9, 0.7, 0.6, 0.2, -0.4])


def ranks_of(
    positive: float = 0.8, surfaces: list[float] | None = None, record: int = 0, **settings: object
) -> list[int]:
    likeness = None if surfaces is None else np.array(surfaces, dtype=np.float64)
    candidates = Candidates(np.arange(6), SCORES, positive, likeness)
    given = {"relative_margin": None, "negatives": 6} | settings
    return choose(candidates, Selection(**given), record, Counts()).tolist()  # type: ignore[arg-type]


def test_margins_are_distances_from_the_own_pair() -> None:
    assert ranks_of() == [0, 1, 2, 3, 4, 5]
    assert ranks_of(absolute_margin=0.0) == [2, 3, 4, 5]
    assert ranks_of(absolute_margin=0.15) == [3, 4, 5]
    assert ranks_of(relative_margin=0.25) == [3, 4, 5]
    assert ranks_of(relative_margin=0.05, absolute_margin=0.3) == [4, 5]
    assert ranks_of(-0.3, relative_margin=0.1) == [5]  # at most -0.33: a fraction of the absolute value
    assert ranks_of(absolute_margin=-0.12) == [1, 2, 3, 4, 5]
    assert ranks_of(max_score=0.6, min_score=0.2) == [3, 4]


def test_first_ranks_are_skipped_and_the_number_is_bounded() -> None:
    assert ranks_of(skip=2, negatives=2) == [2, 3]
    assert ranks_of(skip=6) == []


def test_counts_name_what_was_left_out() -> None:
    counts = Counts()
    settings = Selection(negatives=1, skip=1, absolute_margin=0.0, relative_margin=None, min_score=0.0)
    choose(Candidates(np.arange(6), SCORES, 0.8), settings, 0, counts)
    assert counts.to_json() == {
        "related": 0, "skipped": 1, "above_margin": 1, "below_min_score": 1, "beyond": 2, "chosen": 1,
        "records_without": 0,
    }  # fmt: skip
    choose(Candidates(np.arange(6), SCORES, -1.0), settings, 1, counts)
    assert counts.records_without == 1
    assert counts.skipped + counts.above_margin + counts.below_min_score + counts.beyond + counts.chosen == 12


def test_random_negatives_depend_on_seed_and_record_only() -> None:
    drawn = [ranks_of(sampling="random", negatives=3, record=record, seed=1) for record in range(50)]
    assert drawn == [ranks_of(sampling="random", negatives=3, record=record, seed=1) for record in range(50)]
    assert drawn != [ranks_of(sampling="random", negatives=3, record=record, seed=2) for record in range(50)]
    counts = np.bincount(np.concatenate(drawn), minlength=6)
    assert counts.sum() == 150
    assert all(len(set(one)) == 3 for one in drawn)
    assert counts.min() > 10  # 25 expected


def test_surface_weights_are_the_closed_form() -> None:
    """Likely: equal in form, other in meaning. Weights of two candidates, and draws in that proportion."""
    surfaces = [0.0, 0.9, 0.0, 0.99, 0.5, 0.0]
    limit = 0.8

    def weight(rank: int) -> float:
        return 1 / (1 + math.exp(-(limit - SCORES[rank]) / 0.05)) / max(1 - surfaces[rank], 0.05)

    order = sorted(range(6), key=weight, reverse=True)
    assert order == [3, 4, 1, 5, 2, 0]
    assert ranks_of(surfaces=surfaces) == order
    first = [ranks_of(surfaces=surfaces, sampling="random", negatives=1, record=record)[0] for record in range(2000)]
    shares = np.bincount(first, minlength=6) / 2000
    expected = np.array([weight(rank) for rank in range(6)]) / sum(weight(rank) for rank in range(6))
    np.testing.assert_allclose(shares, expected, atol=0.03)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"negatives": 0}, "--negatives: expected at least 1"),
        ({"skip": -1}, "--skip"),
        ({"depth": 0}, "--depth"),
        ({"sampling": "best"}, "expected one of top, random, got 'best'"),
        ({"max_score": math.nan}, "--max_score: expected a finite number"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Selection(**wrong)  # type: ignore[arg-type]
