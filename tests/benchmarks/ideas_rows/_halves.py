"""Descriptions of ChEBI-20 as two halves, of which one retrieves the other."""

import re

import numpy as np
from families import data_folder


def halves(most: int) -> list[tuple[str, str]]:
    """Descriptions cut at the sentence end nearest their middle, in a random order."""
    lines = (data_folder() / "chebi20" / "validation.txt").read_text(encoding="utf-8").splitlines()[1:]
    pairs = []
    for text in (line.split("\t")[2].strip().strip('"') for line in lines):
        ends = [found.end() for found in re.finditer(r"\. ", text)]
        if ends:
            end = min(ends, key=lambda place: abs(place - len(text) / 2))
            pairs.append((text[:end].strip(), text[end:].strip()))
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[index] for index in order[:most]]
