"""The source `solids`: procedural solids with a mesh, a sentence and a label."""

import io
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import BadSample
from modalities.common.sources.published_dataset import tower_values
from modalities.common.sources.simulated import checked_options, fingerprint, split_names
from modalities.pointcloud.render import render_png
from modalities.pointcloud.solids.draw import KINDS, Solid, draw_solid
from modalities.pointcloud.surface import sample_surface

COLUMNS = ("pointcloud", "image", "text", "label", "id", "split")
OPTIONS = {"train": 2000, "validation": 250, "test": 500, "seed": 0}
RENDERED = 8192
"""Points of a rendered view."""
VERSION = 1
"""Part of the fingerprint: another number where the same solid would be drawn in another way."""

_NAME = re.compile(r"(0|[1-9]\d{0,6})\.(npz|png)")


class SolidsSource(Source):
    """Simulated solids of fourteen kinds, from boxes to staircases, with known proportions, number and parts.

    Columns: `pointcloud` (a mesh, generated on demand, deterministic; y points up), `image` (a view of it, 64 x 64
    pixels), `text` (a sentence such as "two tall tables with four legs"), `label` (the kind). Classes are equally
    frequent, up to one record, in each split. Targets: `count` (solids in a row) and, for tables and staircases,
    `parts` (legs, steps).

    Options: `train` (2000), `validation` (250), `test` (500), numbers of solids; `seed` (0).

    Raises:
        UserError: an option is unknown or out of its range.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"pointcloud": "pointcloud", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        self.options = checked_options("solids", config.options, OPTIONS)
        self._splits = split_names(self.options)
        self._columns = named_columns(config, COLUMNS, "the solids", self.default_columns)

    def solid(self, index: int) -> Solid:
        """Solid number `index`, from 0."""
        return _draw(self.options["seed"], index)

    def records(self) -> Sequence[Record]:
        return [self._record(index, split) for index, split in enumerate(self._splits)]

    def _record(self, index: int, split: str) -> Record:
        solid, name = self.solid(index), str(index)
        cells: dict[str, tuple[Any, ...]] = {
            "pointcloud": (f"{name}.npz",),
            "image": (f"{name}.png",),
            "text": (solid.sentence,),
            "label": (solid.kind,),
            "split": (split,),
            "id": (name,),
        }
        values = tower_values(cells, self._columns)
        targets = {"count": float(solid.count)} | ({"parts": float(solid.parts)} if solid.parts else {})
        return Record(name, f"solids:{name}", values, None, (solid.kind,), split, targets=targets)

    def fetch(self, name: str) -> Path | bytes:
        """The mesh as an NPZ file, or its view as a PNG file."""
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) >= len(self._splits):
            raise BadSample(name, f"0.npz or 0.png to {len(self._splits) - 1}.npz or .png", "another name")
        vertices, faces = self.solid(int(match[1])).mesh
        if match[2] == "png":
            return render_png(sample_surface(vertices, faces, RENDERED)[0].astype(np.float32))
        stream = io.BytesIO()
        np.savez(stream, points=vertices.astype(np.float32), faces=faces)
        return stream.getvalue()

    def fingerprint(self) -> str:
        return fingerprint("solids", VERSION, self.options, self.records())


@lru_cache(1 << 14)
def _draw(seed: int, index: int) -> Solid:
    return draw_solid(list(KINDS)[index % len(KINDS)], np.random.default_rng((seed, index)))
