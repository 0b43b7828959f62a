"""The source `pcdes`: 15,000 molecules and their descriptions from PubChem (Zeng et al. 2022)."""

import re
from pathlib import Path
from typing import ClassVar

from mmalign.errors import UserError
from modalities.molecule.sources.chebi20 import scored, without
from modalities.molecule.sources.description_tables import Described, DescribedMolecules, read_rows, tell

ALL = "align_smiles.txt"
BOUNDS = {"train": 10_500, "validation": 12_000, "test": 15_000}
"""End index of each split in the file of all SMILES."""

SHORTEST = 5
"""Minimum number of words of a sentence."""


class PcdesSource(DescribedMolecules):
    """The folder of PCdes, or any part of it: `--data.manifest FOLDER`; else `$MMALIGN_DATA/pcdes`.

    Tables: any of train.txt, validation.txt and test.txt (tab separated CID, SMILES, description; its CID is the row's
    place among the 15,000); `align_smiles.txt`, all SMILES in that order, for `corpus`.

    Columns: `smiles` and `text`. The id is the CID.

    Options:
        level: paragraph (default) or sentence: a description is split at its full stops, parts of under five words are
            dropped, and a row has several texts; a description without a longer part stays whole.
        split, held, held_test, group, cache: As those of `chebi20`.
        exclude: Folder of ChEBI-20: rows are left out whose InChIKey occurs in its validation.txt or test.txt, or
            counts to one of the two in its `corpus_smiles.txt`, so that what trains here may be scored there.

    Raises:
        UserError: there is no table, one lacks a column, or an option is unknown.
    """

    name: ClassVar[str] = "pcdes"
    choices: ClassVar = {"level": ("paragraph", "sentence"), "exclude": None}

    def described(self) -> list[Described]:
        rows = [row for split, path in self.tables.items() for row in read_rows(path, split)]
        if self.options["level"] == "sentence":
            rows = [row._replace(texts=tuple(part for text in row.texts for part in sentences(text))) for row in rows]
        if not self.options["exclude"]:
            return rows
        unscored = without(rows, scored(Path(self.options["exclude"]).expanduser()))
        tell(rows, unscored, "ChEBI-20 scores their molecules")
        return unscored

    def searched(self) -> list[Described] | None:
        path = self.folder / ALL
        if not path.is_file():
            return None
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: expected a SMILES a line in UTF-8, got {type(error).__name__}") from error
        return [
            Described(str(index), f"{ALL}:{index + 1}", _split(index), line, ()) for index, line in enumerate(lines)
        ]


def sentences(text: str) -> list[str]:
    """A description split at its full stops, without parts of under five words; whole if none is left.

    Example:
        >>> from modalities.molecule.sources.pcdes import sentences
        >>> sentences("It is a 2.5-dioxopiperazine of some kind. It is small. It has a role as a metabolite.")
        ['It is a 2.5-dioxopiperazine of some kind.', 'It has a role as a metabolite.']
    """
    parts = [part for part in re.split(r"(?<=\.)\s+", text) if len(part.split()) >= SHORTEST]
    return parts or [text]


def _split(index: int) -> str:
    return next((split for split, end in BOUNDS.items() if index < end), "")
