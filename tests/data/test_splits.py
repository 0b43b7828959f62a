import random

import pytest

from mmalign.data.sources.base import Record
from mmalign.data.splits import assign, split_key
from mmalign.data.validation import Vetted, vet

SIDES = {"image": False, "text": True}


def record(number: int, *, group: str | None = None, split: str | None = None, file: str = "") -> Record:
    values = {"image": (file,), "text": ("t",)} if file else {"text": ("t",)}
    return Record(str(number), f"n:{number}", values, group=group, split=split)


def test_fractions_are_approximate_and_seeded() -> None:
    records = [record(number) for number in range(10_000)]
    splits = assign(records, SIDES, validation=0.2, test=0.1, seed=3)
    assert splits.count("validation") == pytest.approx(2000, abs=160)  # four standard deviations
    assert splits.count("test") == pytest.approx(1000, abs=120)
    assert assign(records, SIDES, validation=0.2, test=0.1, seed=3) == splits
    assert assign(records, SIDES, validation=0.2, test=0.1, seed=4) != splits
    assert set(assign(records, SIDES, validation=0, test=0, seed=0)) == {"train"}


def test_a_split_depends_on_no_other_row() -> None:
    records = [record(number) for number in range(500)]
    known = {r.id: s for r, s in zip(records, assign(records, SIDES, validation=0.3, test=0, seed=0), strict=True)}
    shuffled = random.Random(0).sample(records, 300)
    for one, split in zip(shuffled, assign(shuffled, SIDES, validation=0.3, test=0, seed=0), strict=True):
        assert known[one.id] == split


def test_groups_and_files_are_never_divided() -> None:
    records = [record(n, group=f"g{n % 50}") for n in range(500)] + [
        record(n, file=f"{n % 50}.png") for n in range(500)
    ]
    splits = assign(records, SIDES, validation=0.4, test=0.2, seed=0)
    found: dict[str, set[str]] = {}
    for one, split in zip(records, splits, strict=True):
        found.setdefault(split_key(one, SIDES), set()).add(split)
    assert len(found) == 100
    assert all(len(names) == 1 for names in found.values())
    assert {name for names in found.values() for name in names} == {"train", "validation", "test"}


def test_the_column_decides_where_there_is_one() -> None:
    records = [record(n, split=s) for n, s in enumerate(["Training", "dev", "test", "fold 3", ""])]
    assert assign(records, SIDES, validation=0.5, test=0, seed=0) == ["train", "validation", "test", "fold 3", ""]
    assert list(vet(records, ["text"], {"text": "t"}).rejected) == [4]


def test_two_towers_are_needed_of_three_and_all_of_two() -> None:
    towers, columns = ["a", "b", "c"], {"a": "A", "b": "B", "c": "C"}
    rows = [{"a": ("1",), "b": ("2",), "c": ("3",)}, {"a": ("1",), "c": ("3",)}, {"b": ("2",)}]
    records = [Record(str(n), f"n:{n}", values) for n, values in enumerate(rows)]
    found = vet(records, towers, columns)
    assert list(found.incomplete) == [2]
    assert found.incomplete[2].reason == "expected a value in column 'A' (at least 2 of a, b, c), got an empty one"
    two = vet(records, ["a", "b"], columns)
    assert {index: problem.tower for index, problem in two.incomplete.items()} == {1: "b", 2: "a"}
    assert vet(records[:2], ["a"], columns) == Vetted()
    assert found.rejected == two.rejected == {}


def test_the_first_of_two_equal_ids_stays() -> None:
    records = [Record("x", "n:1", {"a": ("1",)}), Record("x", "n:2", {"a": ("2",)}), Record("y", "n:3", {"a": ("3",)})]
    found = vet(records, ["a"], {})
    assert list(found.rejected) == [1]
    assert "got 'x' as n:1 has" in found.rejected[1].reason
