"""A molecule from a `Data` object of PyTorch Geometric."""

from typing import Any

from mmalign.errors import BadSample
from modalities.common.reading.pyg_data import is_data


def smiles_of(source: Any) -> Any:
    """The SMILES of a `Data`, as `from_smiles` and `MoleculeNet` store it; any other source unchanged.

    The fields in `x` are not read: their meaning differs between data sets, and the SMILES has all of them.

    Raises:
        BadSample: a `Data` without a SMILES.
    """
    if not is_data(source):
        return source
    smiles = getattr(source, "smiles", None)
    if not isinstance(smiles, str):
        came = f"one with {', '.join(sorted(source.keys())[:8]) or 'no attribute'}" if smiles is None else "several"
        raise BadSample(
            "Data", "one molecule with its SMILES in `smiles`; without one, graphs are samples of modality graph", came
        )
    return smiles
