"""Samples of a table's items, to draw them: the string that is itself a sample, else read from the embedded data."""

from typing import Any

from mmalign.data.config import DataConfig
from mmalign.data.contents import warn_changed
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.errors import UserError
from mmalign.modality import Modality
from mmalign.model import Aligner


class TableSamples:
    """Samples of the items of an embedding table, by the id of their record.

    No name of a file in a table is opened: files are read by the source of the data, which knows its own files only.

    Args:
        modality: Modality of the table's tower.
        tower: The tower.
        data: The embedded data; None where every item is a string that is itself a sample.
    """

    def __init__(self, modality: Modality, tower: str, data: Dataset | None) -> None:
        self._modality, self._tower, self._data = modality, tower, data
        records = () if data is None else data.records
        self._index_of = {record.id: index for index, record in enumerate(records)}

    @staticmethod
    def open(model: Aligner, tower: str, data: DataConfig) -> "TableSamples":
        """Samples of the data that were embedded; a warning is logged if these have changed since the training.

        Raises:
            UserError: the data cannot be opened.
        """
        modality = model.modalities[tower]
        opened = Dataset.open(data, {tower: modality}, splits=[])
        warn_changed(opened, model.provenance, "all")
        return TableSamples(modality, tower, opened)

    def record(self, name: str) -> Record | None:
        """The record of an id; None without data, or if the data do not have it."""
        index = self._index_of.get(name)
        return None if self._data is None or index is None else self._data.records[index]

    def get(self, name: str, value: str | None, alternative: int = 0) -> Any:
        """The sample of an item, as `Modality.read` returns it.

        Args:
            name: Id of its record.
            value: The item's string in the table; None if it was none.
            alternative: Index among the values of the record; used where `value` is None.

        Raises:
            BadSample: it cannot be read.
            UserError: the data do not have the record, or with another value.
        """
        if value is not None and is_sample(self._modality, value):
            return self._modality.read(value)
        index, tower = self._index_of.get(name), self._tower
        if self._data is None or index is None or tower not in self._data.records[index].values:
            raise UserError(
                f"the data has no {tower} of record {name!r}: name the data that was embedded with --data.source or "
                "--data.manifest"
            )
        values = [one if isinstance(one, str) else None for one in self._data.records[index].values[tower]]
        if value is not None and value not in values:
            raise UserError(
                f"record {name!r} has other values of {tower} than the table: expected {value[:80]!r}, got "
                f"{str(values[0])[:80]!r}; name the data that was embedded"
            )
        place = min(alternative, len(values) - 1) if value is None else values.index(value)
        return self._data.store.get(index, tower, place)


def is_sample(modality: Modality, value: str) -> bool:
    """Whether a string is itself a sample of a modality, and no name of a file.

    Example:
        >>> import mmalign
        >>> is_sample(mmalign.modality_of("text", mmalign.TowerConfig()), "a sentence")
        True
    """
    return modality.value_is_sample and not value.strip().lower().endswith(modality.file_suffixes)
