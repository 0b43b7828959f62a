"""One molecule in memory: integer fields of atoms and bonds, motifs, and its SMILES."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Fields = NDArray[np.int16]

ATOM_FIELDS: dict[str, tuple[int, int]] = {
    "element": (0, 118),  # 0 = a dummy atom
    "charge": (-8, 8),
    "hydrogens": (0, 8),
    "radicals": (0, 4),
    "hybridisation": (0, 8),  # rdkit's numbers
    "isotope": (0, 17),  # 0 = not said; else 9 + its mass number less that of the most common isotope
    "degree": (0, 12),
    "aromatic": (0, 1),
    "ring": (0, 1),
    "chirality": (0, 5),  # see CHIRALITY
}
"""Lowest and highest value of each field of an atom. Stored as a bucket: 1 + value - lowest; 0 = any other value."""

BOND_FIELDS: dict[str, tuple[int, int]] = {
    "type": (0, 21),  # rdkit's numbers
    "conjugated": (0, 1),
    "ring": (0, 1),
    "stereo": (0, 9),  # see BOND_STEREO
}
"""The same for bonds."""

CHIRALITY = ("", "R", "S", "r", "s")
"""CIP labels of atoms by value; the value after the last one is a centre without a label."""

BOND_STEREO = ("", "E", "Z", "e", "z", "M", "P", "m", "p")
"""CIP labels of bonds by value; the value after the last one is a double bond without a label."""

ATOM_SIZES = tuple(high - low + 2 for low, high in ATOM_FIELDS.values())
BOND_SIZES = tuple(high - low + 2 for low, high in BOND_FIELDS.values())

MOTIFS = 4096
"""Buckets of motif identities; 0 = not known."""

MAX_ATOMS = 4096
"""Maximum number of atoms, without plain hydrogens."""

MAX_TEXT = 100_000
"""Maximum length of a SMILES or MOL block, in characters."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """One molecule, ready to be embedded; atoms in the order of the SMILES.

    Args:
        smiles: The SMILES as given, or rdkit's canonical one for a file.
        atoms: Buckets of `ATOM_FIELDS`, `(atoms, 10)`.
        bonds: Buckets of `BOND_FIELDS`, `(bonds, 4)`.
        ends: The two atoms of each bond, `(bonds, 2)`.
        motif: The motif of each atom, `(atoms,)`; every motif has one atom at least.
        motif_ids: The bucket of each motif's identity, `(motifs,)` in 1..4095.
    """

    smiles: str
    atoms: Fields
    bonds: Fields
    ends: Fields
    motif: Fields
    motif_ids: Fields

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Molecule):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash(self.smiles)

    @property
    def nbytes(self) -> int:
        """Approximate memory in bytes."""
        arrays = (self.atoms, self.bonds, self.ends, self.motif, self.motif_ids)
        return len(self.smiles) + sum(array.nbytes for array in arrays)


def buckets(values: NDArray[np.int64], low: NDArray[np.int64], sizes: NDArray[np.int64]) -> Fields:
    """Buckets of field values.

    Args:
        values: `(rows, fields)`.
        low: The lowest value of each field.
        sizes: Buckets of each field.

    Example:
        >>> import numpy as np
        >>> buckets(np.array([[-1, 0], [3, 4], [0, -2]]), np.array([-1, 0]), np.array([5, 5])).tolist()
        [[1, 1], [0, 0], [2, 0]]
    """
    indices = values - low + 1
    indices[(indices < 0) | (indices >= sizes)] = 0
    return indices.astype(np.int16)
