"""Labels of ECG tokens: time segments of each lead, and the tokens or beats that cover them."""

import numpy as np
from numpy.typing import NDArray

from mmalign.capabilities import TokenLabels
from mmalign.modality import Encoder
from modalities.ecg.encoders.feature_linear import EcgFeatureLinear
from modalities.ecg.encoders.patch_transformer import Patches
from modalities.ecg.encoders.resnet import ResNet
from modalities.ecg.preprocessing import Crop
from modalities.ecg.sample import LEADS, Ecg
from modalities.ecg.transform import EcgTransform


def ecg_units(sample: Ecg, transform: EcgTransform, encoder: Encoder, level: str, count: int) -> TokenLabels | None:
    """Twelve leads by as many time segments as the encoder has, lead by lead.

    A token of all leads is divided equally among the recorded ones, a beat among the segments that it overlaps.

    Returns:
        None for other encoders than those of this folder.
    """
    if isinstance(encoder, Patches):
        stride = encoder.patch
    elif isinstance(encoder, ResNet):
        stride = encoder.stride
    elif isinstance(encoder, EcgFeatureLinear):
        stride = transform.settings.length  # a token is a lead from start to end
    else:
        return None
    settings, item = transform.settings, transform.item(sample)
    steps = -(-settings.length // stride)
    if level == "parts":
        members = _beats(item["beat_of"], item["lead_mask"], steps, stride)
    elif isinstance(encoder, EcgFeatureLinear):
        members = np.eye(len(LEADS), len(LEADS) + 1)  # the whole-recording token has no position
    elif isinstance(encoder, Patches):
        members = np.eye(len(LEADS) * steps)
    else:
        members = np.kron(item["lead_mask"][:, None] / item["lead_mask"].sum(), np.eye(steps))
    if members.shape[1] != count:
        return None
    seconds = stride / settings.rate
    times = [f"{step * seconds:.1f}-{(step + 1) * seconds:.1f} s" for step in range(steps)]
    labels = [f"{lead} {time}" for lead in LEADS for time in times]
    return TokenLabels(labels, members, shown=window(sample, transform, steps * seconds))


def window(sample: Ecg, transform: EcgTransform, seconds: float) -> Ecg:
    """The encoder's input window, padded at the end to `seconds`; in millivolt, unfiltered."""
    crop = next(step for step in transform.settings.steps if isinstance(step, Crop))
    length = min(sample.signal.shape[1], round(crop.seconds * sample.rate))
    first = (sample.signal.shape[1] - length) // 2
    part, pad = slice(first, first + length), ((0, 0), (0, max(0, round(seconds * sample.rate) - length)))
    signal, valid = np.pad(sample.signal[:, part], pad), np.pad(sample.valid[:, part], pad)
    return Ecg(signal, sample.rate, sample.leads, valid, sample.faults)


def _beats(beat_of: NDArray[np.int64], lead_mask: NDArray[np.bool_], steps: int, stride: int) -> NDArray[np.float64]:
    """`(12 * steps, beats)`: fraction of each beat in each segment of each recorded lead."""
    time = np.zeros((steps, int(beat_of.max()) + 1))
    real = beat_of >= 0
    np.add.at(time, (np.arange(len(beat_of))[real] // stride, beat_of[real]), 1.0)
    return np.kron(lead_mask[:, None] / lead_mask.sum(), time / np.maximum(time.sum(0), 1.0))
