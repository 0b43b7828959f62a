"""Morgan fingerprints with counts."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from mmalign.errors import BadSample
from modalities.molecule.quiet import quiet

RADIUS = 3


def morgan(smiles: str, bins: int, *, stereo: bool = True) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """How often each environment of radius 0..3 occurs (Rogers and Hahn 2010, doi 10.1021/ci100050t).

    Args:
        smiles: A SMILES that was read before.
        bins: Environments are hashed to this many.
        stereo: Tell environments apart by chirality and the sides of double bonds.

    Returns:
        The bins that occur, ascending, and log(1 + count).

    Example:
        >>> places, counts = morgan("CC", 2048)
        >>> np.expm1(counts).round().tolist()
        [2.0, 1.0]
    """
    with quiet():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            raise BadSample(f"SMILES {smiles[:40]!r}", "one that rdkit reads", "one that it refuses")
        found = _generator(bins, stereo).GetCountFingerprint(mol).GetNonzeroElements()
    places = sorted(found)
    return np.array(places, np.int16), np.log1p(np.array([found[place] for place in places], np.float32))


@cache
def _generator(bins: int, stereo: bool) -> rdFingerprintGenerator.FingerprintGenerator64:
    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=bins, includeChirality=stereo)
