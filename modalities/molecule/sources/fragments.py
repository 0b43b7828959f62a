"""The source `fragments`: simulated molecules, put together from rings, linkers and groups, with a description."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import BadSample
from modalities.common.sources.published_dataset import tower_values
from modalities.common.sources.simulated import checked_options, fingerprint, split_names

COLUMNS = ("smiles", "text", "label", "id", "group", "split")
OPTIONS: dict[str, int] = {"train": 2000, "validation": 250, "test": 500, "seed": 0}
VERSION = 1
"""Version in the fingerprint; raised whenever the same molecule would be generated differently."""

RINGS = {
    "benzene": "c1({a})ccc({b})cc1",
    "pyridine": "c1({a})ccc({b})nc1",
    "pyrimidine": "c1({a})ncc({b})cn1",
    "furan": "c1({a})ccc({b})o1",
    "thiophene": "c1({a})ccc({b})s1",
    "cyclohexane": "C1({a})CCC({b})CC1",
    "cyclopentane": "C1({a})CCC({b})C1",
    "naphthalene": "c1({a})ccc2cc({b})ccc2c1",
    "indole": "c1({a})ccc2[nH]c({b})cc2c1",
}
"""Name -> SMILES with two places for substituents."""

GROUPS = {
    "hydroxy": "O",
    "amino": "N",
    "methyl": "C",
    "isopropyl": "C(C)C",
    "methoxy": "OC",
    "fluoro": "F",
    "chloro": "Cl",
    "bromo": "Br",
    "cyano": "C#N",
    "nitro": "[N+](=O)[O-]",
    "carboxylic acid": "C(=O)O",
    "carboxamide": "C(=O)N",
    "acetamido": "NC(=O)C",
    "sulfonamide": "S(=O)(=O)N",
    "trifluoromethyl": "C(F)(F)F",
}
"""Name of a substituent -> its SMILES, from the atom that is bonded to the ring."""

LINKERS = {"ethylene": "CC", "ether": "O", "amide": "C(=O)N", "amine": "NC", "sulfone": "S(=O)(=O)"}
"""Name of a linker -> its SMILES, from the first ring to a phenyl ring."""


class FragmentsSource(Source):
    """Simulated molecules: a ring with two groups, or with one group and a linker to a phenyl ring with another.

    Columns: `smiles`, `text` (a description that names the parts), `label` (the ring), `group` (the SMILES), `id`,
    `split`. Two records may be the same molecule; they have one group.

    Options: `train` (2000), `validation` (250), `test` (500), numbers of molecules; `seed` (0).

    Raises:
        UserError: an option is unknown or out of its range.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"molecule": "smiles", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        self.options = checked_options("fragments", config.options, OPTIONS)
        self._splits = split_names(self.options)
        self._columns = named_columns(config, COLUMNS, "the fragments", self.default_columns)

    def records(self) -> Sequence[Record]:
        return [self._record(index, split) for index, split in enumerate(self._splits)]

    def _record(self, index: int, split: str) -> Record:
        ring, smiles, text = draw_molecule(self.options["seed"], index)
        cells: dict[str, tuple[Any, ...]] = {
            "smiles": (smiles,),
            "text": (text,),
            "label": (ring,),
            "group": (smiles,),
            "id": (str(index),),
            "split": (split,),
        }
        values = tower_values(cells, self._columns)
        return Record(str(index), f"fragments:{index}", values, smiles, (ring,), split)

    def fetch(self, name: str) -> Path | bytes:
        raise BadSample(name, "SMILES", "a file name, but the fragments have no files")

    def fingerprint(self) -> str:
        return fingerprint("fragments", VERSION, self.options, self.records())


def draw_molecule(seed: int, index: int) -> tuple[str, str, str]:
    """Ring, SMILES and description of a molecule, by its number.

    Example:
        >>> draw_molecule(0, 0)[1:]
        ('c1([N+](=O)[O-])ccc2cc(Oc8ccc(Br)cc8)ccc2c1', 'a naphthalene with a nitro group, joined by an ether ...')
    """
    rng = np.random.default_rng((seed, index))
    ring, (first, second) = str(rng.choice(list(RINGS))), rng.choice(list(GROUPS), 2).tolist()
    linker = str(rng.choice(list(LINKERS))) if rng.random() < 0.5 else ""
    if not linker:
        smiles = RINGS[ring].format(a=GROUPS[first], b=GROUPS[second])
        return ring, smiles, f"{_a(ring)} with {_a(first)} group and {_a(second)} group"
    phenyl = f"{LINKERS[linker]}c8ccc({GROUPS[second]})cc8"
    smiles = RINGS[ring].format(a=GROUPS[first], b=phenyl)
    end = f"joined by {_a(linker)} to a phenyl ring with {_a(second)} group"
    return ring, smiles, f"{_a(ring)} with {_a(first)} group, {end}"


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
