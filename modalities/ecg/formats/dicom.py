"""DICOM waveforms -> `Channels`. Only the waveform is parsed: fields about the patient are skipped in the file."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from mmalign.registry import missing_extra
from modalities.common.reading.dicom_log import quiet_dicom
from modalities.common.reading.dicom_words import uid_name
from modalities.ecg.formats.leads import lead_of, leads_of, millivolts
from modalities.ecg.sample import LEADS, MAX_VALUES, Channels

TAGS = ["WaveformSequence", "SOPClassUID", "EncryptedAttributesSequence"]
"""The only tags read from the file."""

RHYTHM_SECONDS = 10.0
"""The rhythm strip is the group with the length closest to this; median beats last about one second."""

OTHER = "another channel"
"""Name of a channel that is no lead: its label is not quoted."""

_UNITS = ("mm[Hg]", "kPa", "dB[mV]", "Cel", "{pulse}/min", "%", "s", "ms", "1")  # units that a message repeats
_TYPES = {("SB", 8): "i1", ("UB", 8): "u1", ("SS", 16): "i2", ("US", 16): "u2", ("SL", 32): "i4", ("UL", 32): "u4"}
_NUMBERS = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"} | {n: f"V{n - 2}" for n in range(3, 9)}


def parse(data: bytes, source: str) -> Channels:
    """The rhythm group of a DICOM file.

    Physical value = stored value x channel sensitivity x correction factor + baseline (DICOM PS3.3, C.10.9.1.4).

    Raises:
        BadSample: it is damaged, encrypted, or no waveform.
    """
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise missing_extra("pydicom", "ecg") from error
    try:
        with quiet_dicom:
            return _rhythm(pydicom.dcmread(io.BytesIO(data), specific_tags=TAGS), source)
    except BadSample:
        raise
    except Exception as error:  # the message may quote the file's fields: only its type is reported, in a traceback too
        raise BadSample(source, "a DICOM waveform", f"a damaged one ({type(error).__name__})") from None


def _rhythm(file: Any, source: str) -> Channels:
    groups, kind = list(file.get("WaveformSequence") or []), uid_name(file.get("SOPClassUID"))
    if not groups:
        locked = "EncryptedAttributesSequence" in file
        came = "one whose attributes are encrypted" if locked else f"{kind} without one"
        raise BadSample(source, "a DICOM waveform", came)
    seconds = [group.NumberOfWaveformSamples / float(group.SamplingFrequency) for group in groups]
    named = [sum(lead is not None for lead in leads_of(_names(group))) for group in groups]
    if not any(named):
        raise BadSample(source, "a DICOM waveform with ECG leads", f"{kind} without them")
    indices = [index for index, count in enumerate(named) if count]
    return _channels(groups[min(indices, key=lambda index: abs(seconds[index] - RHYTHM_SECONDS))], source)


def _channels(group: Any, source: str) -> Channels:
    count, samples = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    stored = (str(group.WaveformSampleInterpretation), int(group.WaveformBitsAllocated))
    if stored not in _TYPES:
        raise BadSample(source, f"waveform samples as one of {', '.join(kind for kind, _ in _TYPES)}", "others")
    # Its bytes are little endian in every transfer syntax in use; the big endian one was retired in 2006.
    kind = np.dtype(_TYPES[stored]).newbyteorder("<")
    raw = bytes(group.WaveformData)
    if not 0 < count * samples <= MAX_VALUES:
        raise BadSample(source, f"1..{MAX_VALUES} values", f"{count} x {samples}")
    if len(raw) < count * samples * kind.itemsize:
        raise BadSample(source, f"{samples} samples of {count} channels", f"a truncated waveform of {len(raw)} bytes")
    digital = np.frombuffer(raw, kind, count * samples).reshape(samples, count).T
    values = digital.astype(np.float64)
    definitions = list(group.ChannelDefinitionSequence)
    units = []
    for row, channel in zip(values, definitions, strict=True):
        if channel.get("ChannelSensitivity") is None:
            units.append("none stated")
            continue
        factor = _number(channel, "ChannelSensitivityCorrectionFactor", 1.0)
        row *= _number(channel, "ChannelSensitivity", 1.0) * factor
        row += _number(channel, "ChannelBaseline", 0.0)
        unit = channel.get("ChannelSensitivityUnitsSequence")
        code = str(unit[0].CodeValue) if unit else "none stated"
        units.append(code if not unit or code in _UNITS or millivolts(code) else "another")
    values[_padding(group, digital, kind)] = np.nan
    return Channels(values, float(group.SamplingFrequency), _names(group), units)


def _number(channel: Any, name: str, default: float) -> float:
    value = channel.get(name)
    return default if value is None or value == "" else float(value)


def _padding(group: Any, digital: NDArray[Any], kind: np.dtype[Any]) -> NDArray[np.bool_]:
    """Mask of the file's padding values, where nothing was recorded."""
    value = group.get("WaveformPaddingValue")
    if value is None:
        return np.zeros(digital.shape, bool)
    if isinstance(value, bytes):
        value = int(np.frombuffer(value[: kind.itemsize], kind)[0])
    return np.asarray(digital == int(value))


def _names(group: Any) -> list[str]:
    return [_name(channel) for channel in group.ChannelDefinitionSequence]


def _name(channel: Any) -> str:
    """The lead by its code (`2:1` of MDC, `5.6.3-9-1` of SCP-ECG), by the code's meaning, or by the channel's label."""
    coded = channel.get("ChannelSourceSequence")
    words = [str(channel.get("ChannelLabel", ""))]
    if coded:
        code, scheme = str(coded[0].get("CodeValue", "")), str(coded[0].get("CodingSchemeDesignator", ""))
        number = code.removeprefix("2:" if scheme == "MDC" else "5.6.3-9-")
        if scheme in ("MDC", "SCPECG") and number.isdecimal() and int(number) in _NUMBERS:
            return _NUMBERS[int(number)]
        words = [str(coded[0].get("CodeMeaning", "")), code, *words]
    return next((word for word in words if lead_of(word)), OTHER)


assert set(_NUMBERS.values()) == set(LEADS)
