"""Pictures: tensors in, a matplotlib figure out; no global state, no window, colours that everyone can tell apart."""

from mmalign.pictures.curves import training_curves
from mmalign.pictures.figures import save
from mmalign.pictures.grid import retrieval_grid
from mmalign.pictures.matrices import confusion, similarity_matrix

__all__ = ["confusion", "retrieval_grid", "save", "similarity_matrix", "training_curves"]
