"""One recording, written in every format by means that share no code with the readers."""

import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from modalities.ecg.sample import LEADS

RATE = 250


def recording() -> np.ndarray:
    """Two leads' worth of limb leads and six chest leads, 4 s, whole microvolts, `(12, 1000)` millivolts."""
    rng = np.random.default_rng(3)
    time = np.arange(4 * RATE) / RATE
    eight = np.stack([np.sin(2 * np.pi * (1.2 + 0.3 * k) * time) * (0.4 + 0.1 * k) for k in range(8)])
    eight = np.round((eight + rng.normal(0, 0.05, eight.shape)) * 500) / 500  # even microvolts: halves are whole
    one, two = eight[:2]
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.stack([*limb, *eight[2:]])


def write_wfdb(folder: Path, signal: np.ndarray, fmt: str = "16", name: str = "rec", **options: object) -> Path:
    import wfdb

    arguments = {"units": ["mV"] * len(signal), "sig_name": [lead.upper() for lead in LEADS[: len(signal)]]} | options
    gain = {"16": 1000.0, "212": 700.0, "80": 40.0}.get(fmt, 1000.0)
    with warnings.catch_warnings():  # wfdb 4.3 uses what pandas 3.1 calls old
        warnings.simplefilter("ignore")
        wfdb.wrsamp(
            name,
            fs=RATE,
            p_signal=signal.T,
            fmt=[fmt] * len(signal),
            adc_gain=[gain] * len(signal),
            baseline=[0 if fmt in ("80", "212") else 120] * len(signal),
            write_dir=str(folder),
            **arguments,
        )
    return folder / f"{name}.hea"


def read_by_wfdb(head: Path) -> np.ndarray:
    import wfdb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return wfdb.rdrecord(str(head.with_suffix(""))).p_signal.T


def write_challenge(folder: Path, signal: np.ndarray) -> Path:
    """As PhysioNet/CinC 2021: a MATLAB matrix of converter units, and a header with gain and baseline."""
    from scipy.io import savemat

    digital = np.round(signal * 1000).astype(np.int16) - 20
    savemat(folder / "JS1.mat", {"val": digital}, format="4")
    lines = [f"JS1 {len(signal)} {RATE} {signal.shape[1]} 12-May-2020 12:33:59"]
    for lead, row in zip(LEADS, digital, strict=True):
        lines.append(
            f"JS1.mat 16+24 1000/mV 16 0 {row[0]} {int(row.sum()) & 65535} 0 {lead}\n".replace("1000/", "1000(-20)/")
        )
    (folder / "JS1.hea").write_text("\n".join(line.strip() for line in lines) + "\n#Age: 60\n")
    return folder / "JS1.mat"


def write_dicom(path: Path, signal: np.ndarray, edit: Callable[[object], None] = lambda file: None) -> Path:
    """Microvolts with a correction factor and a baseline; the rhythm group comes second, after a median beat."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.PatientName, file.PatientID = meta.MediaStorageSOPClassUID, "Doe^Jane", "SECRET-77"

    def group(values: np.ndarray) -> Dataset:
        one = Dataset()
        one.WaveformOriginality, one.SamplingFrequency = "ORIGINAL", RATE
        one.NumberOfWaveformChannels, one.NumberOfWaveformSamples = values.shape
        channels = []
        for lead in LEADS[: len(values)]:
            channel, source, unit = Dataset(), Dataset(), Dataset()
            source.CodeValue, source.CodingSchemeDesignator = f"MDC_ECG_LEAD_{lead}", "MDC"
            source.CodeMeaning = f"Lead {lead}"
            unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
            channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = (
                Sequence([source]),
                Sequence([unit]),
            )
            channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = 0.5, 2.0
            channel.ChannelBaseline, channel.ChannelSampleSkew, channel.WaveformBitsStored = -30, 0, 16
            channels.append(channel)
        one.ChannelDefinitionSequence = Sequence(channels)
        one.WaveformBitsAllocated, one.WaveformSampleInterpretation = 16, "SS"
        one.WaveformData = np.round(values.T * 1000 + 30).astype("<i2").tobytes()
        return one

    file.WaveformSequence = Sequence([group(-signal[:, :RATE]), group(signal)])
    edit(file)
    file.save_as(path, enforce_file_format=True)
    return path


def write_edf(path: Path, signal: np.ndarray) -> Path:
    """Four records of one second, microvolts, and an annotation channel of another rate."""
    count, records = len(signal) + 1, signal.shape[1] // RATE
    labels = [f"ECG {lead}" for lead in LEADS[: len(signal)]] + ["EDF Annotations"]
    fields = [
        (labels, 16), ([""] * count, 80), (["uV"] * (count - 1) + [""], 8), (["-5000"] * count, 8),
        (["5000"] * count, 8), (["-20000"] * count, 8), (["20000"] * count, 8), ([""] * count, 80),
        ([str(RATE)] * (count - 1) + ["10"], 8), ([""] * count, 32),
    ]  # fmt: skip
    head = f"{'0':8}{'SECRET-77 F 01-JAN-1950 Jane_Doe':80}{'Startdate':80}{'01.01.20':8}{'00.00.00':8}"
    head += f"{256 * (count + 1):<8}{'EDF+C':44}{records:<8}{1:<8}{count:<4}"
    head += "".join(f"{value:{width}}" for values, width in fields for value in values)
    digital = np.round(signal * 1000 * 4).astype("<i2")  # 10,000 microvolts on 40,000 steps
    body = b"".join(
        digital[:, second * RATE : (second + 1) * RATE].tobytes() + struct.pack("<10h", *[0] * 10)
        for second in range(records)
    )
    path.write_bytes(head.encode("ascii") + body)
    return path
