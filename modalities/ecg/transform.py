"""ECG transform: twelve leads in the standard order, missing ones masked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign import registry
from mmalign.errors import BadSample, UserError
from mmalign.modality import Transform
from mmalign.types import Inputs
from modalities.ecg.features.beats import beat_of_each_sample
from modalities.ecg.preprocessing import DEFAULT, Crop, Resample, Step, Window, make_steps
from modalities.ecg.sample import LEADS, Ecg

Item = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class EcgSettings:
    """Settings of preprocessing and, off by default, training augmentation.

    Args:
        steps: Preprocessing steps in order, see `preprocessing.py`, with exactly one `resample` and one `crop`.
        least_valid: Minimum recorded fraction of a lead; below it the lead counts as missing.
        beats: Detect heart beats, for encoders that return them as parts.
        lead_dropout: Probability of dropping each lead in training; one always stays.
        noise: Standard deviation of Gaussian noise in training, in units of the normalised signal.
        scaling: Amplitude augmentation: multiply a recording by `exp(uniform(-scaling, scaling))`.
    """

    steps: tuple[Step, ...] = DEFAULT
    least_valid: float = 0.5
    beats: bool = False
    lead_dropout: float = 0.0
    noise: float = 0.0
    scaling: float = 0.0

    def __post_init__(self) -> None:
        """Validate the settings."""
        object.__setattr__(self, "steps", make_steps(self.steps))
        for kind in (Resample, Crop):
            if sum(isinstance(step, kind) for step in self.steps) != 1:
                raise UserError(f"ecg transform: steps must hold {kind.name} once, so that all inputs have one size")
        order = [type(step) for step in self.steps]
        if order.index(Crop) < order.index(Resample):
            raise UserError("ecg transform: crop must come after resample")
        for name, low, high in (
            ("least_valid", 0.0, 1.0),
            ("lead_dropout", 0.0, 0.99),
            ("noise", 0, 10),
            ("scaling", 0, 3),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UserError(f"ecg transform: {name} must be in {low:g}..{high:g}, got {value!r}")
        if not isinstance(self.beats, bool):
            raise UserError(f"ecg transform: beats must be true or false, got {self.beats!r}")

    @property
    def rate(self) -> float:
        """Sampling rate of the inputs in Hz."""
        return next(step.rate for step in self.steps if isinstance(step, Resample))

    @property
    def length(self) -> int:
        """Number of samples of the inputs."""
        return round(next(step.seconds for step in self.steps if isinstance(step, Crop)) * self.rate)

    @staticmethod
    def make(values: Mapping[str, Any]) -> "EcgSettings":
        """Build from a mapping; raises an error for unknown names."""
        return registry.settings(EcgSettings, values, "ecg transform")


class Filtered(NamedTuple):
    """Features of a recording: output of the steps before the crop."""

    window: Window
    leads: tuple[str, ...]


class EcgTransform(Transform):
    """Run the steps, place each lead in its row, and mask missing ones.

    Gaps within a lead are interpolated linearly before filtering, and 0 (its mean) afterwards.

    Args:
        settings: See `EcgSettings`.

    Shape:
        `Ecg` -> item of `signal (12, time)` float32, `lead_mask (12,)`, `time_mask (time,)` -> the same with a
        batch dimension in front. `time_mask` is True where any lead was recorded. With `beats` also
        `beat_of (batch, time)`, the index of each sample's heart beat, and `beat_mask (batch, beats)`.

    Example:
        >>> from modalities.ecg import MODALITY
        >>> transform = MODALITY.transform("resnet", {})
        >>> sample = MODALITY.toy_sample(0, np.random.default_rng(0))
        >>> transform.collate([transform.item(sample)])["signal"].shape
        torch.Size([1, 12, 1000])
    """

    def __init__(self, settings: EcgSettings) -> None:
        self.settings = settings
        # The crop is random in training; the steps before it, the slow filters, run once.
        self._random_from = next(index for index, step in enumerate(settings.steps) if isinstance(step, Crop))

    def featurise(self, sample: Ecg) -> Any:
        """Run the steps before the crop."""
        window = Window(_bridged(sample.signal.astype(np.float64), sample.valid), sample.valid, sample.rate)
        for step in self.settings.steps[: self._random_from]:
            window = step(window)
        return Filtered(window, sample.leads)

    def __call__(self, features: Any, rng: np.random.Generator | None = None) -> Item:
        """Compute the item.

        Raises:
            BadSample: no lead is left.
        """
        s = self.settings
        window, leads = features
        for step in s.steps[self._random_from :]:
            window = step(window, rng)
        signal = np.zeros((len(LEADS), s.length), np.float32)
        lead_mask, time_mask = np.zeros(len(LEADS), bool), np.zeros(s.length, bool)
        span = window.valid.any(0).sum()
        usable = (window.valid.sum(1) > 0) & (window.valid.sum(1) >= s.least_valid * span)
        if not usable.any():
            raise BadSample("ECG", "a lead with a signal in the window", "none")
        if rng is not None and s.lead_dropout:
            usable = _dropped(usable, rng, s.lead_dropout)
        rows = [LEADS.index(lead) for lead, there in zip(leads, usable, strict=True) if there]
        values = np.where(window.valid, window.values, 0.0)[usable]
        if rng is not None and s.scaling:
            values = values * np.exp(rng.uniform(-s.scaling, s.scaling))
        if rng is not None and s.noise:
            values = np.where(window.valid[usable], values + rng.normal(0, s.noise, values.shape), 0.0)
        signal[rows], lead_mask[rows] = values, True
        time_mask[:] = window.valid[usable].any(0)
        item = {"signal": signal, "lead_mask": lead_mask, "time_mask": time_mask}
        if s.beats:
            item["beat_of"] = beat_of_each_sample(signal, time_mask, s.rate)
        return item

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Stack; beats are padded to the largest number in the batch."""
        batch = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
        if "beat_of" in batch:
            counts = batch["beat_of"].amax(1) + 1
            batch["beat_mask"] = torch.arange(int(counts.max())) < counts[:, None]
        return batch

    def config(self) -> dict[str, Any]:
        """The settings; steps as JSON objects."""
        values = {field.name: getattr(self.settings, field.name) for field in fields(self.settings)}
        return values | {"steps": [step.config() for step in self.settings.steps]}


def _bridged(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    for row, real in zip(values, valid, strict=True):
        if not real.all() and real.any():
            row[~real] = np.interp(np.flatnonzero(~real), np.flatnonzero(real), row[real])
    return values


def _dropped(usable: NDArray[np.bool_], rng: np.random.Generator, likely: float) -> NDArray[np.bool_]:
    stays = usable & (rng.random(len(usable)) >= likely)
    if not stays.any():
        stays[rng.choice(np.flatnonzero(usable))] = True
    return stays
