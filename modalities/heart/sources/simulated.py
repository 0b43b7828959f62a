"""The source `hearts`: simulated hearts with ECG, echo, report and true ejection fraction."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.manifest import named_columns
from mmalign.errors import BadSample
from modalities.common.sources.published_dataset import tower_values
from modalities.common.sources.simulated import checked_options, fingerprint, split_names
from modalities.heart.simulator.ecg import ecg_of
from modalities.heart.simulator.echo import echo_of
from modalities.heart.simulator.heart import Heart, draw_heart
from modalities.heart.simulator.report import report_of

COLUMNS = ("ecg", "echo", "text", "label", "id", "group", "split")
OPTIONS: dict[str, float] = {"train": 2000, "validation": 0, "test": 500, "seed": 0, "ecg_noise": 1.0, "poor": 0.12}
LIMITS = {"ecg_noise": 100.0, "poor": 1.0}
VERSION = 1
"""Version in the fingerprint; raised whenever the same heart would be generated differently."""

_NAME = re.compile(r"(0|[1-9]\d{0,6})\.(ecg|echo)\.npz")


class HeartsSource(Source):
    """Simulated hearts with known ejection fraction: see `draw_heart`, `ecg_of`, `echo_of`, `report_of`.

    Columns: `ecg` and `echo` (generated on demand, deterministic), `text` (a report), `label` (the conduction, and the
    ejection fraction's class), `group` and `id` (each heart is a patient). Targets:
    `ejection_fraction` in percent, `heart_rate` per minute.

    Options: `train` (2000), `validation` (0), `test` (500), numbers of hearts; `seed` (0); `ecg_noise` (1), a factor of
    the ECGs' noise; `poor` (0.12), the fraction of hearts with a noisy ECG or without chest leads.

    Raises:
        UserError: an option is unknown or out of its range.
    """

    default_columns: ClassVar[Mapping[str, str]] = {"ecg": "ecg", "echo": "echo", "text": "text"}

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        self.options = checked_options("hearts", config.options, OPTIONS, LIMITS)
        self._splits = split_names(self.options)
        self._columns = named_columns(config, COLUMNS, "the hearts", self.default_columns)

    def heart(self, index: int) -> Heart:
        """Heart number `index`, from 0."""
        return draw_heart(
            int(self.options["seed"]), index, ecg_noise=self.options["ecg_noise"], poor=self.options["poor"]
        )

    def records(self) -> Sequence[Record]:
        return [self._record(index, split) for index, split in enumerate(self._splits)]

    def _record(self, index: int, split: str) -> Record:
        heart, name = self.heart(index), str(index)
        labels = (heart.conduction, f"{heart.ejection_class} ejection fraction")
        cells: dict[str, tuple[Any, ...]] = {
            "ecg": (f"{name}.ecg.npz",),
            "echo": (f"{name}.echo.npz",),
            "text": (report_of(heart),) if "text" in self._columns.values() else (),
            "label": labels,
            "split": (split,),
            **dict.fromkeys(("id", "group"), (name,)),
        }
        values = tower_values(cells, self._columns)
        truth = {"ejection_fraction": heart.ejection_fraction, "heart_rate": heart.rate}
        return Record(name, f"hearts:{name}", values, name, labels, split, targets=truth)

    def fetch(self, name: str) -> Path | bytes:
        """The ECG or the echo as an NPZ file; 2 and 20 ms."""
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) >= len(self._splits):
            raise BadSample(name, f"0.ecg.npz or 0.echo.npz, up to heart {len(self._splits) - 1}", "another name")
        heart, stream = self.heart(int(match[1])), io.BytesIO()
        if match[2] == "ecg":
            ecg = ecg_of(heart)
            np.savez(stream, signal=ecg.signal, rate=ecg.rate, units="mV", leads=np.array(ecg.leads))
        else:
            echo = echo_of(heart)
            np.savez(stream, frames=echo.frames, rate=echo.rate)
        return stream.getvalue()

    def fingerprint(self) -> str:
        return fingerprint("hearts", VERSION, self.options, self.records())
