"""The two mesh collections of the benchmark as one table and one archive, and folds that keep a base name whole."""

import csv
import re
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLLECTIONS = (("kaykit_3d", "kaykit_obj.zip"), ("kenney_3d", "kenney_glb.zip"))
COLOURS = frozenset((
    "red", "green", "blue", "yellow", "orange", "purple", "pink", "white", "black", "brown", "grey", "gray", "gold",
    "silver", "teal", "cyan", "beige",
))  # fmt: skip
LEAST_NAMES, LEAST_MESHES = 3, 8
"""A first word counts as a class from this many base names and meshes on."""


@dataclass(frozen=True)
class Mesh:
    """One mesh.

    Args:
        id: Collection and name.
        text: Its name as words.
        base: The name without colours, digits and single letters: variants of one model share it.
        file: Where it lies in the archive.
        preview: Where its picture lies, "" = none.
    """

    id: str
    text: str
    base: str
    file: str
    preview: str = ""

    @property
    def word(self) -> str:
        """The first word of the base name."""
        return self.base.split()[0] if self.base else ""


def base_name(text: str) -> str:
    """A name without colours, digits and single letters.

    Example:
        >>> base_name("bottle a green 2")
        'bottle'
    """
    words = re.findall(r"[a-z]+|\d+", text.lower())
    return " ".join(word for word in words if len(word) > 1 and not word.isdigit() and word not in COLOURS)


def read_meshes(data: Path, archive: Path) -> list[Mesh]:
    """Join the collections of a data folder into one archive; the meshes in the order of their tables."""
    meshes = []
    with zipfile.ZipFile(archive, "w") as joined:
        for name, packed in COLLECTIONS:
            with zipfile.ZipFile(data / name / packed) as files, (data / name / "names.tsv").open() as table:
                for row in csv.DictReader(table, delimiter="\t"):
                    own = [row["mesh"], *([row["preview"]] if row.get("preview") else [])]
                    for path in own:
                        joined.writestr(f"{name}/{path}", files.read(path))
                    inside = [f"{name}/{path}" for path in own]
                    meshes.append(Mesh(f"{name}/{row['id']}", row["text"], base_name(row["text"]), *inside))
    return meshes


def class_words(meshes: list[Mesh]) -> list[str]:
    """First words with enough base names and meshes."""
    names, counts = defaultdict(set), Counter(mesh.word for mesh in meshes)
    for mesh in meshes:
        names[mesh.word].add(mesh.base)
    return sorted(w for w in names if w and len(names[w]) >= LEAST_NAMES and counts[w] >= LEAST_MESHES)


def folds(meshes: list[Mesh], seed: int, count: int = 5) -> np.ndarray:
    """The fold of each mesh; all meshes of a base name are in one, and the base names of a word are spread evenly."""
    rng, fold = np.random.default_rng(seed), {}
    names = defaultdict(set)
    for mesh in meshes:
        names[mesh.word].add(mesh.base)
    for word in sorted(names):
        shuffled = sorted(names[word])
        rng.shuffle(shuffled)
        start = int(rng.integers(count))
        fold |= {base: (index + start) % count for index, base in enumerate(shuffled)}
    return np.array([fold[mesh.base] for mesh in meshes])


def write_table(meshes: list[Mesh], held_out: np.ndarray, path: Path) -> None:
    """A manifest with a split column: `held_out` meshes are test, the others train and a tenth of them validation."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "mesh", "image", "text", "word", "base", "split"])
        for mesh, out in zip(meshes, held_out, strict=True):
            row = [mesh.id, mesh.file, mesh.preview, mesh.text, mesh.word, mesh.base]
            writer.writerow([*row, "test" if out else "train"])
