"""Pictures: each format, depth and layout that is decoded."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand, demand_array, single


def seeds(folder: Path) -> dict[str, Case]:
    """Pictures of 24 x 16 pixels."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (16, 24)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "png": (rgb, "PNG", {}),
        "png-alpha": (rgb.convert("RGBA"), "PNG", {}),
        "png-palette": (rgb.convert("P"), "PNG", {"transparency": 3}),
        "png-bits": (rgb.convert("1"), "PNG", {}),
        "png-deep": (deep, "PNG", {"transparency": 7}),
        "jpeg": (rgb, "JPEG", {"exif": exif}),
        "jpeg-cmyk": (rgb.convert("CMYK"), "JPEG", {"progressive": True}),
        "webp": (rgb, "WEBP", {}),
        "webp-lossless": (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        "tiff": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "tiff-deep": (deep, "TIFF", {}),
        "tiff-float": (Image.fromarray(rng.random((16, 24)).astype(np.float32)), "TIFF", {}),
        "tiff-frames": (rgb, "TIFF", {"save_all": True, "append_images": [rgb], "compression": "tiff_deflate"}),
    }
    cases = {}
    for name, (picture, kind, arguments) in options.items():
        stream = io.BytesIO()
        picture.save(stream, kind, **arguments)
        cases[name] = single(f"p.{kind.lower()}", stream.getvalue())
    cases["array"] = Case(value=np.asarray(rgb))
    cases["array-alpha"] = Case(value=np.asarray(rgb.convert("RGBA")))
    cases["array-float"] = Case(value=rng.random((16, 24)).astype(np.float32))
    return cases


def check(sample: Any) -> None:
    """Red, green, blue."""
    demand_array(sample, np.uint8, 3, "pixels")
    demand(sample.shape[2] == 3, f"shape {sample.shape}")
