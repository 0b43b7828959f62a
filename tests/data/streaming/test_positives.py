import numpy as np

from mmalign.data.batching.batches import positive_groups
from mmalign.data.sources.base import Record
from mmalign.data.streaming.positives import hashed_groups

TEXTS = {"image": False, "text": True}


def record(number: int, texts: tuple[str, ...], image: bytes | None = None, group: str | None = None) -> Record:
    return Record(str(number), "", {"image": (image or b"%d" % number,), "text": texts}, group=group)


def test_positives_by_content_are_those_of_a_listed_data_set() -> None:
    records = [
        record(0, ("a red disc", "a disc")),
        record(1, ("a disc",)),
        record(2, ("a blue disc",), image=b"same"),
        record(3, ("a green disc",), image=b"same"),
        record(4, ("other",)),
    ]
    found, listed = hashed_groups(records, "content", TEXTS), positive_groups(records, "content")
    assert np.array_equal(found[:, None] == found, listed[:, None] == listed)
    assert len(set(found.tolist())) == 3


def test_equal_sentences_of_two_processes_are_positives() -> None:
    one = hashed_groups([record(0, ("a disc",)), record(1, ("a square",))], "content", TEXTS)
    two = hashed_groups([record(7, ("a square",)), record(8, ("a line",))], "content", TEXTS)
    assert one[1] == two[0]
    assert len({*one.tolist(), *two.tolist()}) == 3


def test_positives_by_group_and_by_record() -> None:
    records = [record(0, ("x",), group="p"), record(1, ("x",)), record(2, ("x",), group="p"), record(3, ("x",))]
    groups = hashed_groups(records, "group", TEXTS)
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 3
    assert len(set(hashed_groups(records, "record", TEXTS).tolist())) == 4
    assert (hashed_groups(records, "record", TEXTS) >= 0).all()
