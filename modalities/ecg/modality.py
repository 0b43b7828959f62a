"""The ECG modality: what the core calls."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmalign.capabilities import TokenLabels
from mmalign.modality import Encoder, Modality, Transform
from modalities.ecg.encoders.feature_linear import MILLIVOLTS, EcgFeatureLinear, MeasuredTransform
from modalities.ecg.encoders.patch_transformer import Patches
from modalities.ecg.encoders.resnet import ResNet
from modalities.ecg.explain import ecg_units
from modalities.ecg.perturb import PERTURBATIONS, perturb_ecg
from modalities.ecg.read import MAX_BYTES, read_ecg
from modalities.ecg.sample import Ecg
from modalities.ecg.synthetic import synthetic_ecg
from modalities.ecg.transform import EcgSettings, EcgTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class EcgModality(Modality):
    """Electrocardiograms.

    Args:
        strict: Reject recordings that would raise a warning; see `read_ecg`.
    """

    name = "ecg"
    max_file_bytes = MAX_BYTES
    bare_suffixes = (".hea",)
    description = "ECGs of 1 to 12 leads: WFDB, DICOM, EDF, CSV, NPY, NPZ, Parquet; a sample is millivolts per lead"
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {
        "resnet": ResNet,
        "patches": Patches,
        "features": EcgFeatureLinear,
    }
    perturbations: ClassVar[Mapping[str, Sequence[float]]] = PERTURBATIONS

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict

    def with_strict_reading(self) -> "EcgModality":
        """A copy that rejects recordings with faults."""
        return EcgModality(strict=True)

    def read(self, source: Any) -> Ecg:
        """Decode and check, see `read_ecg`."""
        return read_ecg(source, strict=self.strict)

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> EcgTransform:
        """The default steps, or the given ones; with beats if the encoder returns them."""
        if encoder == "features":
            return MeasuredTransform(EcgSettings.make({"steps": MILLIVOLTS} | settings))
        wanted = {"beats": True} if encoder_args.get("beats") is True else {}
        return EcgTransform(EcgSettings.make(wanted | settings))

    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """From `EcgTransform.config()`."""
        if "statistics" in config:
            settings = {name: value for name, value in config.items() if name != "statistics"}
            return MeasuredTransform(EcgSettings.make(settings), config["statistics"])
        return EcgTransform(EcgSettings.make(config))

    def perturb(self, sample: Ecg, transform: Transform, name: str, level: float, rng: np.random.Generator) -> Ecg:
        """Wander, noise, dropped leads, gain; see `perturb_ecg`."""
        return perturb_ecg(sample, name, level, rng)

    def picture(self, sample: Ecg, axes: "Axes") -> None:
        """Draw the twelve-lead page."""
        from modalities.ecg.picture import draw_page

        draw_page(sample, axes)

    def weighted_picture(self, sample: Ecg, axes: "Axes", weights: Sequence[float]) -> None:
        """Draw the twelve-lead page shaded by weight; one weight for each lead and segment of time."""
        from modalities.ecg.picture import draw_page

        draw_page(sample, axes, weights)

    def token_labels(
        self, sample: Ecg, transform: Transform, encoder: Encoder, level: str, count: int
    ) -> TokenLabels | None:
        """Time segments of each lead, see `ecg_units`."""
        return ecg_units(sample, transform, encoder, level, count) if isinstance(transform, EcgTransform) else None

    def toy_sample(self, label: int, rng: np.random.Generator) -> Ecg:
        """One of ten synthetic hearts."""
        return synthetic_ecg(label, rng)
