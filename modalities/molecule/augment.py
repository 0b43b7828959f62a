"""Augmentation of molecules for two views: random connected subgraphs and removed atoms (GraphCL)."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from modalities.molecule.sample import Molecule


def checked_views(subgraph: float, atom_removal: float, fingerprint: int) -> None:
    """Validate the settings of the two augmentations.

    Raises:
        UserError: one is out of its range, or a fingerprint, which is counted from the whole molecule, is also set.
    """
    if not 0 < subgraph <= 1:
        raise UserError(f"molecule transform: subgraph must be in (0, 1], got {subgraph}")
    if not 0 <= atom_removal < 1:
        raise UserError(f"molecule transform: atom_removal must be in 0..1, got {atom_removal}")
    if fingerprint and (subgraph < 1 or atom_removal):
        raise UserError(
            "molecule transform: fingerprints are counted from the whole molecule: subgraph and atom_removal need "
            "fingerprint: 0"
        )


def changed(sample: Molecule, subgraph: float, atom_removal: float, rng: np.random.Generator) -> Molecule:
    """A random subgraph of a molecule (1 = the whole), of which atoms are removed with a probability."""
    if subgraph < 1:
        sample = random_subgraph(sample, subgraph, rng)
    return without_atoms(sample, atom_removal, rng) if atom_removal else sample


def random_subgraph(sample: Molecule, fraction: float, rng: np.random.Generator) -> Molecule:
    """A connected subgraph with a fraction of the atoms, rounded up, grown from a random atom by random neighbours.

    It is smaller where the first atom's fragment is (a salt). (You et al. 2020, arXiv 2010.13902: 0.8.)

    Args:
        sample: The molecule.
        fraction: Fraction of its atoms.
        rng: Draws the first atom, and each next one among the neighbours of those chosen.
    """
    count = len(sample.atoms)
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for start, end in sample.ends.tolist():
        neighbours[start].append(end)
        neighbours[end].append(start)
    size, first = int(np.ceil(fraction * count)), int(rng.integers(count))
    chosen, border = {first}, list(neighbours[first])
    while len(chosen) < size and border:
        atom = border.pop(int(rng.integers(len(border))))
        if atom not in chosen:
            chosen.add(atom)
            border += [next_one for next_one in neighbours[atom] if next_one not in chosen]
    keeps = np.zeros(count, dtype=bool)
    keeps[list(chosen)] = True
    return with_atoms(sample, keeps)


def without_atoms(sample: Molecule, probability: float, rng: np.random.Generator) -> Molecule:
    """Each atom is removed with this probability, with its bonds; one atom always stays."""
    keeps = rng.random(len(sample.atoms)) >= probability
    keeps[rng.integers(len(keeps))] = True
    return with_atoms(sample, keeps)


def with_atoms(sample: Molecule, keeps: NDArray[np.bool_]) -> Molecule:
    """The atoms where `keeps (atoms,)` is True, and the bonds between them; every bond stays with its fields.

    A motif that loses an atom has an unknown identity (bucket 0), one that loses all atoms is dropped.
    """
    bonds = keeps[sample.ends].all(axis=1)
    numbers = np.cumsum(keeps) - 1
    whole = np.bincount(sample.motif, minlength=len(sample.motif_ids))
    left = np.bincount(sample.motif[keeps], minlength=len(sample.motif_ids))
    motif_numbers = np.cumsum(left > 0) - 1
    identities = np.where(left == whole, sample.motif_ids, 0)[left > 0]
    return replace(
        sample,
        atoms=sample.atoms[keeps],
        bonds=sample.bonds[bonds],
        ends=numbers[sample.ends[bonds]].astype(sample.ends.dtype),
        motif=motif_numbers[sample.motif[keeps]].astype(sample.motif.dtype),
        motif_ids=identities.astype(sample.motif_ids.dtype),
    )
