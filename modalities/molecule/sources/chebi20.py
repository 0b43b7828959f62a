"""The source `chebi20`: 33,010 molecules and their descriptions from ChEBI (Edwards et al., EMNLP 2021)."""

from pathlib import Path
from typing import Any, ClassVar

from mmalign.errors import UserError
from modalities.molecule.chem.inchikey import inchikeys
from modalities.molecule.sources.description_tables import Described, DescribedMolecules, read_rows, tables, tell

CORPUS = "corpus_smiles.txt"
NAMED = ("CID", "CanonicalSMILES", "Description")


class Chebi20Source(DescribedMolecules):
    """The folder of ChEBI-20, or any part of it: `--data.manifest FOLDER`; else `$MMALIGN_DATA/chebi20`.

    Tables: any of train.txt, validation.txt and test.txt (tab separated CID, SMILES, description, as MolT5 ships them);
    their `*_named.csv` for `text: named`; `corpus_smiles.txt` (CID, SMILES, split) for `corpus`.

    Columns: `smiles`, with stereo and its doubled backslashes mended, and `text`. The id is the CID.

    Options:
        text: masked (default; every description begins with "The molecule is") or named (the names left in; rows that
            have no such text are left out). Figures on one are not to be compared with figures on the other.
        split: file (default where train.txt is there): a row belongs to the split that its file is named after; own
            (default elsewhere): one part alone is divided, by `held` or by `--data.validation` and `--data.test`.
        held, held_test: With `split: own`, numbers of pairs held out for validation and for testing, in whole groups.
            They are the same pairs in every run, independent of `add`.
        group: inchikey (default), connectivity (its first block: no two stereoisomers in two splits) or none.
        cache: Folder of the disk cache of InChIKeys (0.5 ms each to compute).
        add: Folder of PCdes, whose pairs are added for training, except those whose InChIKey occurs here or in the
            validation or test molecules of `corpus_smiles.txt`.

    Raises:
        UserError: there is no table, one lacks a column, or an option is unknown.
    """

    name: ClassVar[str] = "chebi20"
    choices: ClassVar = {"text": ("masked", "named"), "add": None}

    def _options(self, settings: Any) -> None:
        super()._options(settings)
        if self.options["add"] and self.options["split"] == "own" and not any(self.held.values()):
            raise UserError(
                "--data.options.add: added pairs are for training alone; say how many of the others are not, by "
                "--data.options.held N (or train.txt and --data.options.split file)"
            )

    def described(self) -> list[Described]:
        rows = [row for split, path in self.tables.items() for row in read_rows(path, split)]
        return self._named(rows) if self.options["text"] == "named" else rows

    def searched(self) -> list[Described] | None:
        return corpus(self.folder)

    def added(self) -> list[Described]:
        if not self.options["add"]:
            return []
        folder = Path(self.options["add"]).expanduser()
        added = [row for path in tables(folder).values() for row in read_rows(path, "train")]
        if not added:
            raise UserError(
                f"--data.options.add: expected a folder of PCdes with train, validation or test.txt: {folder}"
            )
        unscored = without(added, here := scored(self.folder, splits=None))
        tell(added, unscored, f"added pairs whose molecule is among {len(here)} here")
        return [row._replace(id=f"pcdes {row.id}") for row in unscored]

    def _named(self, rows: list[Described]) -> list[Described]:
        texts: dict[str, tuple[str, ...]] = {}
        for split in self.tables:
            path = self.folder / f"{split}_named.csv"
            if not path.is_file():
                raise UserError(f"--data.options.text named: {path} is missing; it holds the texts with names")
            texts |= {row.id: row.texts for row in read_rows(path, split, NAMED) if row.texts}
        named = [row._replace(texts=texts[row.id]) for row in rows if row.id in texts]
        tell(rows, named, "no text with names")
        return named


def corpus(folder: Path) -> list[Described] | None:
    """All molecules of the benchmark with their splits, without texts; None if their list is missing."""
    path = folder / CORPUS
    if not path.is_file():
        return None
    rows = read_rows(path, "", ("CID", "SMILES", "split"))
    return [row._replace(split=row.texts[0] if row.texts else "", texts=()) for row in rows]


def scored(folder: Path, splits: tuple[str, ...] | None = ("validation", "test")) -> set[str]:
    """InChIKeys of this benchmark's evaluation molecules: of its tables, and of its corpus by split.

    Args:
        folder: Folder of ChEBI-20.
        splits: The tables that count; None = all of them.
    """
    rows = [
        row
        for split, path in tables(folder).items()
        if splits is None or split in splits
        for row in read_rows(path, split)
    ]
    rows += [row for row in corpus(folder) or [] if row.split in ("validation", "test")]
    return set(inchikeys(row.smiles for row in rows)) - {""}


def without(rows: list[Described], keys: set[str]) -> list[Described]:
    """The rows whose InChIKey is not in `keys`; rows without an InChIKey are kept."""
    inchi_keys = inchikeys(row.smiles for row in rows)
    return [row for row, key in zip(rows, inchi_keys, strict=True) if key not in keys]
