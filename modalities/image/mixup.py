"""Mixup and CutMix on a batch of images."""

import torch
from torch import Tensor


def mix_pixels(pixels: Tensor, partners: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each image with its partner, half of them by blending (Mixup), the other half by pasting a box (CutMix).

        blend (Mixup, arXiv 1710.09412)    weight x + (1 - weight) x'
        paste (CutMix, arXiv 1905.04899)   a box of x' of about 1 - weight of the area, cut off at the border

    Draws from torch's CPU generator.

    Args:
        pixels: `(batch, channels, height, width)`, integers 0..255.
        partners: Index of each image's partner, `(batch,)`.
        weight: Weight of the image itself, `(batch,)` in [0, 1]; 1 = unchanged.

    Returns:
        The mixed images, and the actual weight of each image itself: for a box, by its clipped area.

    Example:
        >>> black_and_white = torch.tensor([0, 200], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 8)
        >>> mixed, weight = mix_pixels(black_and_white, torch.tensor([1, 0]), torch.tensor([1.0, 1.0]))
        >>> bool((mixed == black_and_white).all()), weight
        (True, tensor([1., 1.]))
    """
    count, _, height, width = pixels.shape
    drawn = torch.rand(3, count, device="cpu").to(pixels.device)
    blend, weight = drawn[0] < 0.5, weight.to(pixels.device)
    edge = (1 - weight).sqrt()
    rows = torch.arange(height, device=pixels.device)
    columns = torch.arange(width, device=pixels.device)
    # (batch, length): whether a row (a column) is inside the box.
    inside_rows = (rows + 0.5 - (drawn[1] * height)[:, None]).abs() < (edge * height / 2)[:, None]
    inside_columns = (columns + 0.5 - (drawn[2] * width)[:, None]).abs() < (edge * width / 2)[:, None]
    box = inside_rows[:, :, None] & inside_columns[:, None, :]
    left = torch.where(blend, weight, 1 - box.float().mean((1, 2)))
    own = torch.where(blend[:, None, None], weight[:, None, None], (~box).float())[:, None]
    mixed = own * pixels + (1 - own) * pixels[partners]
    return mixed.round().to(pixels.dtype), left
