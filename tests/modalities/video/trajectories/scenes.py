"""Small scenes with known motion: textured squares over a textured background."""

import numpy as np
from scipy.ndimage import gaussian_filter

RED, BLUE, GREY = (210, 60, 50), (60, 80, 220), (90, 110, 90)


def texture(rng: np.random.Generator, height: int, width: int, colour: tuple[int, int, int], smooth: float):
    noise = gaussian_filter(rng.normal(size=(height, width)), smooth, mode="wrap")
    return np.clip(np.array(colour) + 12 * (noise / noise.std())[..., None], 0, 255).astype(np.uint8)


def scene(
    frames: int = 16,
    *,
    size: int = 64,
    side: int = 14,
    speeds: tuple[float, ...] = (2.0,),
    pan: float = 0.0,
    smooth: float = 2.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames, and the masks of the squares `(squares, time, height, width)`; negative speeds start at the right.

    The camera pans by `pan` pixels a frame over a still background; squares move in the picture.
    """
    rng = np.random.default_rng(seed)
    ground = texture(rng, size, size + int(pan * frames) + 1, GREY, smooth)
    out = np.zeros((frames, size, size, 3), np.uint8)
    masks = np.zeros((len(speeds), frames, size, size), bool)
    squares = [texture(rng, side, side, colour, 1.0) for colour, _ in zip((RED, BLUE), speeds, strict=False)]
    for time in range(frames):
        shift = int(pan * time)
        out[time] = ground[:, shift : shift + size]
        for index, speed in enumerate(speeds):
            x = round((8 if speed >= 0 else size - side - 8) + speed * time)
            y = size // 2 - side // 2 + (6 * index if len(speeds) > 1 else 0)
            out[time, y : y + side, x : x + side] = squares[index]
            masks[:, time, y : y + side, x : x + side] = False
            masks[index, time, y : y + side, x : x + side] = True
    return out, masks


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal up to the names of the ids."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def dominant(labels: np.ndarray, mask: np.ndarray) -> list[int]:
    """The id that covers most of the mask, in each frame."""
    return [int(np.bincount(frame[inside]).argmax()) for frame, inside in zip(labels, mask, strict=True)]
