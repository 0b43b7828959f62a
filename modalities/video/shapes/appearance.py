"""Scenes whose class is what moves: its colour and shape."""

import numpy as np

from modalities.video.shapes.scene import (
    COLOURS,
    FRAMES,
    GROUNDS,
    NUMBERS,
    SHAPES,
    SIDE,
    SIZES,
    Body,
    Scene,
    along,
    draw_camera,
    draw_distractors,
    surroundings,
)

KINDS = tuple((colour, shape) for shape in SHAPES for colour in COLOURS)
"""The thirty classes."""

MOVES = ("vertically", "sideways")


def draw_appearance(kind: int, rng: np.random.Generator) -> Scene:
    """Draw a scene of class `kind`: one to three equal shapes that move, maybe among others that do not.

    Class and sentence hold for the reversed frames as well.

    Args:
        kind: Index in `KINDS`.
        rng: Source of all randomness.

    Example:
        >>> scene = draw_appearance(0, np.random.default_rng(2))
        >>> scene.label, scene.sentence
        ('red square', 'a large red square moves vertically on a mosaic background')
    """
    colour, shape = KINDS[kind]
    size, axis, number = (
        str(rng.choice(list(SIZES))),
        int(rng.integers(2)),
        int(rng.choice((1, 2, 3), p=(0.6, 0.2, 0.2))),
    )
    camera, ground = draw_camera(rng), str(rng.choice(GROUNDS))
    others = draw_distractors(rng, camera, {(colour, shape)})
    radius = rng.uniform(*SIZES[size])
    gap = min(2.4 * radius, (SIDE - 4) / number)
    travel, way, sway = rng.uniform(24, 36), rng.choice((-1, 1)), rng.uniform(-3, 3)
    middle = SIDE / 2 + rng.uniform(-4, 4)
    room = SIDE / 2 - radius - gap * (number - 1) / 2
    across = SIDE / 2 + rng.uniform(-1, 1) * max(room - 4, 0) + gap * (np.arange(number) - (number - 1) / 2)
    ends = middle - way * travel / 2, middle + way * travel / 2
    subjects = [Body(shape, colour, along(axis, *ends, float(at), sway), np.full(FRAMES, radius)) for at in across]
    plural, verb = ("es" if shape == "cross" else "s", "move") if number > 1 else ("", "moves")
    sentence = (
        f"{NUMBERS[number]} {size} {colour} {shape}{plural} {verb} {MOVES[axis]}{surroundings(ground, len(others))}"
    )
    return Scene(
        "appearance", f"{colour} {shape}", sentence, (*others, *subjects), number, ground, camera, False,
        int(rng.integers(1 << 31)),
    )  # fmt: skip
