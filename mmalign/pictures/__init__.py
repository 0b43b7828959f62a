"""Pictures: tensors in, a matplotlib figure out; no global state, no window, colours that everyone can tell apart."""

from mmalign.pictures.correspondence import answers, correspondence_figure
from mmalign.pictures.curves import training_curves
from mmalign.pictures.figures import save
from mmalign.pictures.grid import retrieval_grid
from mmalign.pictures.matrices import confusion, similarity_matrix

__all__ = [
    "answers",
    "confusion",
    "correspondence_figure",
    "retrieval_grid",
    "save",
    "similarity_matrix",
    "training_curves",
]
