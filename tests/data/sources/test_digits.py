from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.data.sources.digits import WORDS, DigitsSource
from mmalign.errors import BadSample, UserError
from mmalign.modality import Modality


def test_the_real_digits_with_five_sentences_each() -> None:
    records = DigitsSource(SourceConfig(source="digits")).records()
    digits = load_digits()
    assert [record.id for record in records] == [str(index) for index in range(1797)]
    for index in (0, 7, 1796):
        (picture,) = records[index].values["image"]
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, np.rint(digits.images[index] * 255 / 16))
    for record, digit in zip(records, digits.target.tolist(), strict=True):
        assert record.labels == (WORDS[digit],)
        assert len(set(record.values["text"])) == 5
        assert all(WORDS[digit] in sentence or str(digit) in sentence for sentence in record.values["text"])
    assert len({sentence for record in records for sentence in record.values["text"]}) == 50


def test_a_fifth_of_each_digit_is_held_out() -> None:
    records = DigitsSource(SourceConfig()).records()
    held = Counter(record.labels[0] for record in records if record.split == "validation")
    every = Counter(record.labels[0] for record in records)
    assert all(held[word] == round(0.2 * every[word]) for word in WORDS)
    assert {record.split for record in records} == {"train", "validation"}


def test_towers_may_be_renamed_and_typos_are_named() -> None:
    records = DigitsSource(SourceConfig(columns={"glyph": "image", "word": "label"})).records()
    assert set(records[3].values) == {"glyph", "word"}
    assert records[3].values["word"] == ("three",)
    with pytest.raises(UserError, match="no column 'imag'; did you mean 'image'"):
        DigitsSource(SourceConfig(columns={"image": "imag"}))
    with pytest.raises(UserError, match="takes no options"):
        DigitsSource(SourceConfig(options={"size": 8}))
    with pytest.raises(BadSample, match="no files"):
        DigitsSource(SourceConfig()).fetch("3")


def test_through_the_data_module(modalities: dict[str, Modality]) -> None:
    assert DataConfig(source="digits").towers == ["image", "text"]
    data = Dataset.open(DataConfig(source="digits"), modalities)
    assert (len(data.split("train").records), len(data.split("validation").records)) == (1438, 359)
    assert data.rejected == []
    assert data.fingerprint() == fingerprint_again(modalities)


def fingerprint_again(modalities: dict[str, Modality]) -> str:
    data = Dataset.open(DataConfig(source="digits", validation=0.5), modalities, splits=[])
    return data.fingerprint()
