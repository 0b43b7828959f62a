"""Descriptions of simulated clips: what moves, how, past what, over which background."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FRAMES, SIDE, RATE = 24, 64, 8.0
"""Frames of a clip, pixels of a side, frames per second."""

MARGIN = 12
"""Largest distance that the camera travels from the middle, in pixels."""

COLOURS = {
    "red": (225, 45, 40), "green": (50, 190, 60), "blue": (50, 80, 235), "yellow": (240, 215, 50),
    "purple": (175, 55, 205), "white": (245, 245, 245),
}  # fmt: skip
SHAPES = ("square", "circle", "triangle", "cross", "diamond")
SIZES = {"small": (4.5, 5.5), "large": (8.0, 9.5)}
"""Word -> range of the radius in pixels; nothing between the two words."""

GROUNDS = ("plain", "striped", "dotted", "checked", "mosaic")
NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAX_DISTRACTORS = 9


@dataclass(frozen=True, eq=False)
class Body:
    """One shape.

    Args:
        shape: A name in `SHAPES`.
        colour: A key of `COLOURS`.
        path: Row and column of its centre in the picture, in pixels, `(time, 2)`.
        radius: Half of its width, in pixels, `(time,)`.
    """

    shape: str
    colour: str
    path: NDArray[np.float64]
    radius: NDArray[np.float64]

    @property
    def name(self) -> str:
        """Colour and shape, in words."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that a clip shows.

    Args:
        task: appearance or order.
        label: The class in words.
        sentence: The clip in words.
        bodies: From the rearmost to the foremost; body k has segment id k + 1.
        subjects: Number of bodies that move; they are of one kind.
        ground: A name in `GROUNDS`.
        camera: Rows and columns that the camera has moved, in pixels, `(time, 2)`.
        reverse: The frames are played backwards. All other fields but label and sentence describe the clip forwards.
        seed: Seed of the background and of the noise.
    """

    task: str
    label: str
    sentence: str
    bodies: tuple[Body, ...]
    subjects: int
    ground: str
    camera: NDArray[np.float64]
    reverse: bool
    seed: int


def backwards(scene: Scene, label: str, sentence: str) -> Scene:
    """The same frames in reverse order, with the class and the sentence that then hold."""
    return replace(scene, label=label, sentence=sentence, reverse=not scene.reverse)


def along(axis: int, start: float, end: float, across: float, sway: float) -> NDArray[np.float64]:
    """A path along rows (axis 0) or columns (1) from start to end, at `across`, with one sway of `sway` pixels."""
    time = np.linspace(0, 1, FRAMES)
    path = np.empty((FRAMES, 2))
    path[:, axis] = start + (end - start) * time
    path[:, 1 - axis] = across + sway * np.sin(2 * np.pi * time)
    return path


def draw_camera(rng: np.random.Generator) -> NDArray[np.float64]:
    """Still for half of the clips, otherwise a pan in a random direction."""
    if rng.random() < 0.5:
        return np.zeros((FRAMES, 2))
    end = rng.uniform(-MARGIN, MARGIN, 2) / 2
    return np.linspace(-1, 1, FRAMES)[:, None] * end


def still(position: tuple[float, float], camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """The path in the picture of what stays at a row and column of the world."""
    return np.array(position) - camera


def draw_distractors(
    rng: np.random.Generator, camera: NDArray[np.float64], taken: set[tuple[str, str]], most: int = MAX_DISTRACTORS
) -> list[Body]:
    """No other shapes for half of the clips, otherwise 1 to 9 that do not move; none of the kinds in `taken`."""
    few = rng.random()
    count = 0 if few < 0.5 else int(rng.integers(1, 3)) if few < 0.8 else int(rng.integers(3, most + 1))
    bodies: list[Body] = []
    while len(bodies) < count:
        kind = (str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES)))
        row, column, radius = rng.uniform(4, SIDE - 4), rng.uniform(4, SIDE - 4), rng.uniform(3.5, 5.5)
        if kind not in taken:
            bodies.append(Body(kind[1], kind[0], still((row, column), camera), np.full(FRAMES, radius)))
    return bodies


def surroundings(ground: str, distractors: int) -> str:
    """The end of a sentence: other shapes, background."""
    others = f" among {'one' if distractors == 1 else NUMBERS[distractors]} other shape" if distractors else ""
    return f"{others}{'s' if distractors > 1 else ''} on a {ground} background"
