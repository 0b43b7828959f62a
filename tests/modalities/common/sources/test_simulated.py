"""Options, splits and fingerprint of simulated sources."""

from typing import Any

import pytest

from mmalign.data.sources.base import Record
from mmalign.errors import UserError
from modalities.common.sources.simulated import checked_options, fingerprint, split_names

DEFAULTS: dict[str, float] = {"train": 3, "validation": 0, "test": 1, "seed": 0, "noise": 0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"trian": 1},
            "source 'toys' has no option 'trian'; did you mean 'train'? (known: noise, seed, test, train, validation)",
        ),
        ({"train": 1.5}, "--data.options.train: expected a whole number in 0..1e+06, got 1.5"),
        ({"train": True}, "--data.options.train: expected a whole number in 0..1e+06, got True"),
        ({"seed": -1}, "--data.options.seed: expected a whole number in 0..1e+06, got -1"),
        ({"noise": 2.5}, "--data.options.noise: expected a number in 0..2, got 2.5"),
        ({"noise": float("nan")}, "--data.options.noise: expected a number in 0..2, got nan"),
        ({"noise": "loud"}, "--data.options.noise: expected a number in 0..2, got 'loud'"),
        ({"train": 0, "test": 0}, "source 'toys': expected at least one record in train, validation or test, got none"),
    ],
)
def test_an_invalid_option_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        checked_options("toys", given, DEFAULTS, {"noise": 2.0})
    assert str(raised.value) == message


def test_given_options_replace_defaults_and_defaults_stay_unchanged() -> None:
    before = dict(DEFAULTS)
    assert checked_options("toys", {"noise": 2, "test": 4}, DEFAULTS) == {**DEFAULTS, "noise": 2, "test": 4}
    assert before == DEFAULTS


def test_splits_follow_one_another_with_their_numbers_of_records() -> None:
    assert split_names({"train": 1, "validation": 2, "test": 1}) == ["train", "validation", "validation", "test"]


def test_fingerprint_depends_on_version_options_and_content() -> None:
    def of(version: int = 1, seed: int = 0, value: str = "x") -> str:
        return fingerprint("toys", version, {"seed": seed}, [Record("0", "toys:0", {"text": (value,)})])

    assert of() == of()
    assert len({of(), of(version=2), of(seed=1), of(value="y")}) == 4
