"""Random crops of texts."""

import numpy as np
import pytest

from mmalign.errors import UserError
from modalities.text.augment import augmented, random_crop
from modalities.text.tfidf_transform import NgramSettings
from modalities.text.transform import TextSettings

TEXT = " ".join(f"w{n}" for n in range(40))


def test_a_crop_is_a_run_of_words_within_its_bounds() -> None:
    rng, sizes = np.random.default_rng(0), []
    for _ in range(300):
        words = random_crop(TEXT, (0.1, 0.5), rng).split()
        numbers = [int(word[1:]) for word in words]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        sizes.append(len(words))
    assert (min(sizes), max(sizes)) == (4, 20)
    assert abs(np.mean(sizes) - 12) < 1
    assert random_crop("one", (0.05, 0.05), rng) == "one"
    assert len(random_crop("one two three", (0.01, 0.01), rng).split()) == 1


def test_a_whole_text_without_dropout_is_the_text() -> None:
    spaced = "one  two\tthree"
    assert augmented(spaced, (1.0, 1.0), 0.0, np.random.default_rng(0)) == spaced
    assert random_crop(TEXT, (1.0, 1.0), np.random.default_rng(0)) == TEXT


def test_bounds_are_checked() -> None:
    for settings in (TextSettings, NgramSettings):
        assert settings(random_crop=[0.2, 0.5]).random_crop == (0.2, 0.5)  # type: ignore[arg-type]
        for wrong in ([0.5, 0.2], [0.0, 1.0], [0.5], "ab", 0.5, [0.2, 1.5], [True, 1]):
            with pytest.raises(UserError, match="random_crop must be"):
                settings(random_crop=wrong)  # type: ignore[arg-type]
