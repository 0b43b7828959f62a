"""The ten toy classes, equal in all modalities, so that any two modalities form pairs with known relevance."""

from mmalign.errors import UserError

COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 160, 40),
    "blue": (40, 60, 210),
    "yellow": (230, 210, 30),
    "violet": (150, 40, 190),
}
SHAPES = ("disc", "square")


def colour_and_shape(label: int) -> tuple[str, str]:
    """The colour and the shape of class `label` (0..9)."""
    if not 0 <= label < len(COLOURS) * len(SHAPES):
        raise UserError(f"toy classes are 0..9, got {label}")
    return list(COLOURS)[label % len(COLOURS)], SHAPES[label // len(COLOURS)]
