"""Graphs: nodes and edges with fields of numbers, and networks of PyTorch Geometric over them."""

from modalities.graph.modality import GraphModality

MODALITY = GraphModality()
__all__ = ["MODALITY"]
