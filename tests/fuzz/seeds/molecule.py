"""Molecules: SMILES with every kind of sign, MOL blocks of both versions, SDF files."""

from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem

from modalities.molecule.sample import ATOM_SIZES, BOND_SIZES, MAX_ATOMS, MOTIFS, Molecule
from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand, single

SMILES = (
    "CCO", "CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)O", "F/C=C/F", "[Na+].[Cl-]", "C[C@H](F)Cl |&1:1|", "[13CH4]",
    "*CC* |$_AP1;;$|",
    "C1CC2CCC1C2", "O=[N+]([O-])c1ccccc1", "[Fe+2]", "C%10CCCC%10", "[2H]O[2H]", "c1ccc2c(c1)[nH]c1ccccc12",
)  # fmt: skip


def seeds(folder: Path) -> dict[str, Case]:
    """Strings, and files of what rdkit writes."""
    cases = {f"smiles-{index}": Case(value=text) for index, text in enumerate(SMILES)}
    for index, text in enumerate(SMILES[1:4]):
        mol = Chem.MolFromSmiles(text)
        block = Chem.MolToMolBlock(mol).encode()
        cases[f"mol-{index}"] = single("m.mol", block)
        cases[f"v3000-{index}"] = single("m.mol", Chem.MolToV3KMolBlock(mol).encode())
        cases[f"sdf-{index}"] = single("m.sdf", block + b">  <NAME>\nWei\xdf\n\n$$$$\n")
        cases[f"block-{index}"] = Case(value=block.decode())
    return cases


def check(sample: Any) -> None:
    """Fields within their buckets, bonds between atoms, every atom in a motif."""
    demand(isinstance(sample, Molecule), f"a {type(sample).__name__}")
    atoms, bonds = len(sample.atoms), len(sample.bonds)
    demand(1 <= atoms <= MAX_ATOMS and bool(sample.smiles), f"{atoms} atoms")
    for values, sizes, what in ((sample.atoms, ATOM_SIZES, "atoms"), (sample.bonds, BOND_SIZES, "bonds")):
        demand(values.dtype == np.int16 and values.shape[1:] == (len(sizes),), f"{what}: {values.dtype} {values.shape}")
        demand(bool(((values >= 0) & (values < np.array(sizes))).all()), f"{what} outside of their buckets")
    demand(sample.ends.shape == (bonds, 2), f"ends {sample.ends.shape}")
    demand(bonds == 0 or 0 <= int(sample.ends.min()) <= int(sample.ends.max()) < atoms, "bonds to no atom")
    demand(sample.motif.shape == (atoms,) and set(sample.motif.tolist()) == set(range(len(sample.motif_ids))), "motifs")
    demand(bool(((sample.motif_ids >= 1) & (sample.motif_ids < MOTIFS)).all()), "motif ids")
