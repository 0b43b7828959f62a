"""The source `digits`: 1,797 handwritten digits from scikit-learn, with generated captions."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmalign.data.sources.base import RESERVED, Record, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import BadSample, UserError
from mmalign.registry import missing_extra

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SENTENCES = (
    "a handwritten {word}",
    "the digit {digit}",
    "the number {word} written by hand",
    "a picture of the digit {word}",
    "somebody wrote a {digit}",
)
VALIDATION = 0.2


class DigitsSource(Source):
    """Images of 8 x 8 grey levels (0..16, scaled to 0..255), five captions each; the label is the digit's word.

    It has its own split: within each digit, the 20 % of the images with the smallest hash are `validation`. All images
    are distinct.

    Columns: `image`, `text`, `label`.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"image": "image", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        if config.options:
            raise UserError(f"source 'digits' takes no options, got {', '.join(config.options)}")
        known = ["image", "text", "label", "id", "split"]
        self._columns = named_columns(config, known, "the digits", self.default_columns)

    def records(self) -> Sequence[Record]:
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise missing_extra("scikit-learn", "all") from error
        digits = load_digits()
        pictures = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        splits = _splits(pictures, digits.target)
        records = []
        for index, (picture, digit) in enumerate(zip(pictures, digits.target.tolist(), strict=True)):
            word = WORDS[digit]
            sentences = tuple(sentence.format(word=word, digit=digit) for sentence in SENTENCES)
            cells: dict[str, tuple[Any, ...]] = {"image": (picture,), "text": sentences, "label": (word,)}
            values = {
                tower: cells.get(column, (str(index),))
                for tower, column in self._columns.items()
                if tower not in RESERVED
            }
            record = Record(str(index), f"digits:{index}", values, labels=(word,), split=splits[index])
            records.append(record)
        return records

    def fetch(self, name: str) -> Path | bytes:
        raise BadSample(name, "a picture or sentence", "a file name, but the digits have no files")

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(SENTENCES).encode())
        for record in self.records():
            digest.update(f"{record.labels} {record.split}".encode())
            for value in record.values.values():
                digest.update(value[0].tobytes() if isinstance(value[0], np.ndarray) else repr(value).encode())
        return digest.hexdigest()


def _splits(pictures: Any, targets: Any) -> list[str]:
    keys = [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]
    splits = ["train"] * len(keys)
    for digit in range(10):
        members = sorted(np.flatnonzero(targets == digit).tolist(), key=keys.__getitem__)
        for index in members[: round(VALIDATION * len(members))]:
            splits[index] = "validation"
    return splits
