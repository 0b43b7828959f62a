"""Every mutant's text still occurs in the code, once, and its tests exist; `make mutants` runs them."""

import ast
import re

import pytest

from tests.mutants.all import MUTANTS
from tests.mutants.mutant import ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_applies_to_the_code(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"update the mutant in tests/mutants: {mutant.old!r}"
    ast.parse(text.replace(mutant.old, mutant.new))  # an error of syntax would be noticed by any test
    assert mutant.old != mutant.new
    assert all((ROOT / test.partition("::")[0]).exists() for test in mutant.tests)


def test_names_are_unique_and_their_number_is_documented() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    stated = re.search(r"(\d+) of (\d+) mutants", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert stated, "CONTRIBUTING.md states the figure of make mutants"
    assert stated[1] == stated[2] == str(len(MUTANTS))
