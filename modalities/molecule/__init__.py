"""Molecules: reading SMILES and MOL files, motifs, a store of features, graph encoders."""

from modalities.molecule.modality import MoleculeModality

MODALITY = MoleculeModality()
__all__ = ["MODALITY"]
