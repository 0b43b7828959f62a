"""The source `shapenet55`: ShapeNet-55 as released by ULIP, 52,470 shapes with class names and renders."""

from pathlib import Path
from typing import Any

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import UserError
from modalities.common.reading.json_file import read_json
from modalities.common.reading.local_file import is_file
from modalities.common.sources.published_dataset import check_options
from modalities.pointcloud.sources.classes import COLUMNS, ClassifiedShapes, listed_files, sentence_of, shapes_folder

CLOUDS, RENDERS, NAMES = "shapenet_pc", "rendered_images", "taxonomy.json"
LISTS = {"train": "train.txt", "test": "test.txt"}
DEGREES = range(0, 360, 12)
"""Directions from which ULIP rendered each shape."""


class ShapeNet55Source(ClassifiedShapes):
    """The folder of ULIP's ShapeNet-55: `--data.manifest FOLDER`.

    It has `shapenet_pc/SYNSET-ID.npy` (8,192 points, y up), `taxonomy.json` (synset -> names), the lists `train.txt`
    and `test.txt`, there or in `ShapeNet-55`, and perhaps the renders
    `rendered_images/SYNSET-ID/SYNSET-ID_r_DEGREES.png`. As the release documents them; not checked against the data.
    The pickled tables of OpenShape are not read.

    Columns: `pointcloud`, `text` (each name of the class is an alternative: "an airplane", "a plane"), `label` (its
    first name), `image` (the renders that are there, each an alternative), `id`, `split` (train or test).

    Raises:
        UserError: a list or `taxonomy.json` is missing or damaged, or an option is given.
    """

    kind = "ShapeNet-55"
    columns = (*COLUMNS, "image")

    def __init__(self, config: SourceConfig) -> None:
        check_options(config, ())
        folder = shapes_folder(config, "shapenet55")
        self._names = _taxonomy(folder / NAMES)
        lists = folder / "ShapeNet-55" if (folder / "ShapeNet-55").is_dir() else folder
        shapes = []
        for split, file in LISTS.items():
            for line in listed_files(lists / file):
                synset = line.partition("-")[0]
                if synset not in self._names:
                    raise UserError(f"{lists / file}: expected synsets of {NAMES}, got {line[:60]!r}")
                shapes.append((f"{CLOUDS}/{line}", self._names[synset][0], split))
        super().__init__(config, folder, shapes)

    def further_cells(self, name: str, label: str) -> dict[str, tuple[Any, ...]]:
        """All names of the class, and the renders where they are asked for."""
        file = name.removeprefix(f"{CLOUDS}/")
        stem, synset = Path(file).stem, file.partition("-")[0]
        cells: dict[str, tuple[Any, ...]] = {"text": tuple(map(sentence_of, self._names[synset]))}
        if "image" in self._columns.values():
            paths = [f"{RENDERS}/{stem}/{stem}_r_{degree:03d}.png" for degree in DEGREES]
            cells["image"] = tuple(path for path in paths if is_file(self.folder / path))
        return cells


def _taxonomy(path: Path) -> dict[str, tuple[str, ...]]:
    """Synset -> its names."""
    try:
        rows = read_json(path)
        named = {
            str(row["synsetId"]): tuple(name.strip() for name in row["name"].split(",") if name.strip()) for row in rows
        }
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: expected a JSON list of synsetId and name, got {type(error).__name__}") from error
    return {synset: names for synset, names in named.items() if names}
