"""Some records of a split, in the order given."""

import mmalign
from mmalign import DataConfig
from mmalign.data.dataset import Dataset


def test_take_keeps_indices_beside_their_records() -> None:
    text = mmalign.modality_of("text", mmalign.TowerConfig())
    split = Dataset.open(DataConfig("digits"), {"text": text}, splits=["validation"]).split("validation")
    taken = split.take([5, 2, 9])
    assert taken.indices == (split.indices[5], split.indices[2], split.indices[9])
    assert taken.records == (split.records[5], split.records[2], split.records[9])
    assert [*taken.samples("text")] == [text for record in taken.records for text in record.values["text"]]
