"""Small real data: PNG bytes of one colour each, and a folder of pictures with sentences."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmalign import registry
from mmalign.modality import Modality


def make_png(value: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def png() -> Callable[..., bytes]:
    return make_png


@pytest.fixture(scope="session")
def modalities() -> dict[str, Modality]:
    return {side: registry.load("modalities", side) for side in ("image", "text")}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """`names.csv` with 40 rows: file, text, label, split-less; each picture has its own colour."""
    lines = ["file,text,label"]
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(make_png(number * 6))
        lines.append(f"{number}.png,picture {number},class {number % 4}")
    path = tmp_path / "names.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
