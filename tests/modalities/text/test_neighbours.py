"""Near texts: similar ones first, equal ones never, the same in blocks."""

import numpy as np
import pytest

from modalities.common import nearest
from modalities.text import MODALITY

COLOURS, WAYS = ("red", "green", "blue", "white"), ("left", "right", "up", "down")
TEXTS = [f"a {colour} square moves {way}" for colour in COLOURS for way in WAYS]


def test_the_nearest_texts_share_most_words() -> None:
    for row, near in enumerate(MODALITY.neighbours(TEXTS, 6)):
        words = TEXTS[row].split()
        shared = [sum(word in TEXTS[other].split() for word in words) for other in near]
        assert shared == [4] * 6  # the same colour or the same way
        assert row not in near


def test_equal_texts_are_no_neighbours() -> None:
    near = MODALITY.neighbours(["a red disc", "A  red disc", "a blue disc", "nothing else"], 3)
    assert near.tolist() == [[2, -1, -1], [2, -1, -1], [0, 1, -1], [-1, -1, -1]]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MODALITY.neighbours(TEXTS, 5)
    monkeypatch.setattr(nearest, "BLOCK", 3 * len(TEXTS))
    np.testing.assert_array_equal(MODALITY.neighbours(TEXTS, 5), whole)


def test_few_texts() -> None:
    assert MODALITY.neighbours([], 2).shape == (0, 2)
    assert MODALITY.neighbours(["one"], 2).tolist() == [[-1, -1]]
    assert MODALITY.neighbours(["one", "two"], 0).shape == (2, 0)
