"""Figures: tensors to a matplotlib figure, without global state or windows, in colour-blind safe colours."""

from mmalign.pictures.correspondence import attributions, correspondence_figure
from mmalign.pictures.curves import training_curves
from mmalign.pictures.figures import save
from mmalign.pictures.forest import ForestRow, forest
from mmalign.pictures.grid import retrieval_grid
from mmalign.pictures.ladders import ladders
from mmalign.pictures.matrices import confusion, similarity_matrix
from mmalign.pictures.risk import dots, predicted_and_true, risk_coverage
from mmalign.pictures.spaces import space_maps
from mmalign.pictures.strips import strips

__all__ = [
    "ForestRow",
    "attributions",
    "confusion",
    "correspondence_figure",
    "dots",
    "forest",
    "ladders",
    "predicted_and_true",
    "retrieval_grid",
    "risk_coverage",
    "save",
    "similarity_matrix",
    "space_maps",
    "strips",
    "training_curves",
]
