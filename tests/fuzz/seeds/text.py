"""Texts: a sample is the string."""

from pathlib import Path
from typing import Any

from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand

TEXTS = (
    "a red disc",
    "Sinusrhythmus.\nLagetyp normal, 70/min.",
    "Größe: 12 µm – «naïve»",
    "图像 \U0001f9ec e\u0301",
    "x" * 300,
)


def seeds(folder: Path) -> dict[str, Case]:
    """Short and long ones, of several scripts."""
    return {f"text-{index}": Case(value=text) for index, text in enumerate(TEXTS)}


def check(sample: Any) -> None:
    """A string with something in it, which UTF-8 can hold."""
    demand(isinstance(sample, str) and bool(sample.strip()), "no text")
    demand(sample.encode("utf-8", "replace").decode() == sample, "broken Unicode")
