"""The ten made-up classes that every modality can show, so that any two of them form pairs with a known answer."""

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
    """The colour and the shape that class `label` (0..9) stands for."""
    if not 0 <= label < len(COLOURS) * len(SHAPES):
        raise UserError(f"synthetic classes are 0..9, got {label}")
    return list(COLOURS)[label % len(COLOURS)], SHAPES[label // len(COLOURS)]
