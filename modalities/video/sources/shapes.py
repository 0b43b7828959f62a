"""The source `shapes`: simulated clips of moving shapes with true masks, a sentence and a class."""

import io
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import BadSample, UserError
from mmalign.registry import nearest
from modalities.common.sources.published_dataset import tower_values
from modalities.common.sources.simulated import SPLITS, checked_options, fingerprint, split_names
from modalities.video.shapes.appearance import KINDS, draw_appearance
from modalities.video.shapes.order import OPPOSITES, draw_order
from modalities.video.shapes.render import render
from modalities.video.shapes.scene import RATE, Scene

COLUMNS = ("video", "text", "label", "task", "id", "split")
OPTIONS: dict[str, int] = {"train": 2000, "validation": 250, "test": 500, "seed": 0}
TASKS = ("mixed", "appearance", "order")
VERSION = 1
"""Version in the fingerprint; raised whenever the same clip would be generated differently."""

_NAME = re.compile(r"(0|[1-9]\d{0,6})\.npz")


class ShapesSource(Source):
    """Simulated clips of 24 frames, 64 x 64 pixels, with 1 to 12 shapes, a moving or a still camera, and true masks.

    Columns: `video` (frames, rate and the segment of each pixel; generated on demand, deterministic), `text` (a
    sentence), `label` (the class), `task`, `id`, `split`. Targets: `count`, the shapes that move.

    Tasks: `appearance`, the class is what moves (30 colours and shapes), among other shapes that do not. `order`, the
    class is an order of events (8 classes): moves left or right, up or down, grows or shrinks, passes in front of one
    shape and then behind another or the reverse. Records 2k and 2k + 1 of a split have the same frames in opposite
    orders and belong to opposite classes, so that an encoder without time is at chance within a pair; half of their
    sentences do not name the colour and shape of what moves. `mixed`
    alternates: two records of appearance, two of order. Classes are equally frequent in each split, up to a few
    records.

    Options: `task` (mixed); `train` (2000), `validation` (250), `test` (500), numbers of clips; `seed` (0).

    Raises:
        UserError: an option is unknown or out of its range.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"video": "video", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        settings = dict(config.options)
        self.task = settings.pop("task", TASKS[0])
        if self.task not in TASKS:
            known = ", ".join(TASKS)
            raise UserError(f"--data.options.task: expected {known}, got {self.task!r}{nearest(str(self.task), TASKS)}")
        self.options = checked_options("shapes", settings, OPTIONS)
        self._splits = split_names(self.options)
        self._columns = named_columns(config, COLUMNS, "the shapes", self.default_columns)

    def scene(self, index: int) -> Scene:
        """The description of clip number `index`, from 0."""
        split = SPLITS.index(self._splits[index])
        first = sum(self.options[name] for name in SPLITS[:split])
        return _draw(self.options["seed"], self.task, split, index - first)

    def records(self) -> Sequence[Record]:
        return [self._record(index, split) for index, split in enumerate(self._splits)]

    def _record(self, index: int, split: str) -> Record:
        scene, name = self.scene(index), str(index)
        cells: dict[str, tuple[Any, ...]] = {
            "video": (f"{name}.npz",), "text": (scene.sentence,), "label": (scene.label,), "task": (scene.task,),
            "split": (split,),
            "id": (name,),
        }  # fmt: skip
        values = tower_values(cells, self._columns)
        labels = (scene.task,) if self._columns.get("label") == "task" else (scene.label,)
        return Record(name, f"shapes:{name}", values, None, labels, split, targets={"count": float(scene.subjects)})

    def fetch(self, name: str) -> Path | bytes:
        """The clip as an NPZ file with `frames`, `rate` and `labels`; 3 ms."""
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) >= len(self._splits):
            raise BadSample(name, f"0.npz to {len(self._splits) - 1}.npz", "another name")
        frames, labels = render(self.scene(int(match[1])))
        stream = io.BytesIO()
        np.savez(stream, frames=frames, rate=RATE, labels=labels)
        return stream.getvalue()

    def fingerprint(self) -> str:
        return fingerprint(f"shapes {self.task}", VERSION, self.options, self.records())


@lru_cache(1 << 12)
def _draw(seed: int, task: str, split: int, index: int) -> Scene:
    """Clip number `index` of a split."""
    block, offset = divmod(index, 4)
    appearance = task == "appearance" or (task == "mixed" and offset < 2)
    if appearance:
        number = index if task == "appearance" else 2 * block + offset
        return draw_appearance(number % len(KINDS), np.random.default_rng((seed, split, index)))
    pair = index // 2
    kind = list(OPPOSITES)[(pair if task == "order" else block) % len(OPPOSITES)]
    return draw_order(kind, np.random.default_rng((seed, split, 2 * pair)))[index % 2]
