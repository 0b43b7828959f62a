"""Files that are damaged, locked, too large, or something else: refused by name."""

import io
import json
import shutil
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden_files import write_dicom

from mmalign.errors import BadSample
from modalities.ecg.read import read_ecg
from modalities.ecg.sample import LEADS

STATED = {"rate": 250, "units": "mV", "leads": list(LEADS)}


def refused(source: object, *words: str) -> None:
    with pytest.raises(BadSample) as caught:
        read_ecg(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def survives(source: object) -> None:
    """A recording or a bad sample: nothing else comes of damage."""
    message = ""
    try:
        assert read_ecg(source).signal.size
    except BadSample as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["dicom", "edf", "npz", "parquet", "npy", "csv"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.95])
def test_truncated_files(kind: str, share: float, golden: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / golden[kind].name
    data = golden[kind].read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    if kind == "npy":
        shutil.copy(golden[kind].with_suffix(".json"), tmp_path)
    if kind == "csv" and share > 0.2:
        ecg = read_ecg(file) if share == 0.3 and _ends_whole(file) else None  # text has no length of its own
        assert ecg is None or ecg.seconds < 4
        return
    refused(file, file.name)


def _ends_whole(file: Path) -> bool:
    return file.read_text().splitlines()[-1].count(",") == 12


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_give_a_recording_or_a_bad_sample(seed: int, golden: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    for kind in ("dicom", "edf", "npz", "parquet"):
        data = bytearray(golden[kind].read_bytes())
        for place in rng.integers(0, min(len(data), 4000), 12):
            data[place] = rng.integers(256)
        survives(bytes(data))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_headers(seed: int, golden: dict[str, Path]) -> None:
    rng = np.random.default_rng(seed)
    head, data = golden["wfdb"].read_bytes(), golden["wfdb"].with_suffix(".dat").read_bytes()
    broken = bytearray(head)
    for place in rng.integers(0, len(broken), 4):
        broken[place] = rng.integers(256)
    survives({"rec.hea": bytes(broken), "rec.dat": data})


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("", ["a damaged one"]),
        ("rec 0 250 1000", ["signals"]),
        ("rec 1 250 1000\n../../etc/passwd 16 1000/mV 16 0 0 0 0 I", ["beside the header"]),
        ("rec 1 250 1000\n/etc/passwd 16 1000/mV 16 0 0 0 0 I", ["beside the header"]),
        ("rec 1 250 999999999999\nrec.dat 16 1000/mV 16 0 0 0 0 I", ["truncated"]),
        ("rec 1 0 1000\nrec.dat 16 1000/mV 16 0 0 0 0 I", ["a rate"]),
        ("rec 1 1e99 1000\nrec.dat 16 1000/mV 16 0 0 0 0 I", ["a rate"]),
        ("rec 1 nan 1000\nrec.dat 16 1000/mV 16 0 0 0 0 I", ["a rate"]),
        ("rec 1 250 1000\nrec.dat 16 1000/mmHg 16 0 0 0 0 I", ["lead I in V", "mmHg"]),
        ("rec 1 250 1000\nrec.dat 16 1000/mV 16 0 0 0 0 ABP", ["leads named", "ABP"]),
        ("rec 2 250 1000\nrec.dat 16 1000/mV 16 0 0 0 0 I\nrec.dat 16 1000/mV 16 0 0 0 0 DI", ["once", "I twice"]),
        ("rec 2 250 1000\nrec.dat 16 1000/mV 16 0 0 0 0 I\nrec.dat 212 1000/mV 16 0 0 0 0 II", ["one storage format"]),
        ("rec 1 250 100\nrec.dat 16 1000/mV 16 0 0 0 0 I", ["at least 1 s"]),
    ],
)
def test_inconsistent_headers_are_rejected(head: str, words: list[str], golden: dict[str, Path]) -> None:
    refused({"rec.hea": head.encode(), "rec.dat": golden["wfdb"].with_suffix(".dat").read_bytes()}, "rec.hea", *words)


def test_a_wrong_checksum_is_reported(golden: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    files = {name: golden["wfdb"].with_name(name).read_bytes() for name in ("rec.hea", "rec.dat")}
    files["rec.dat"] = files["rec.dat"][:5000] + b"\x05\x00" + files["rec.dat"][5002:]
    assert any("checksum" in fault for fault in read_ecg(files).faults)
    assert "rec.hea: the checksum of" in caplog.text


def test_missing_parts(golden: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(golden["wfdb"], tmp_path)
    refused(tmp_path / "rec.hea", "rec.dat", "no such file")
    refused(tmp_path / "other.dat", "other.hea")
    shutil.copy(golden["mat"], tmp_path)
    refused(tmp_path / "JS1.mat", "JS1.hea", "gain")
    refused(tmp_path / "no.dcm", "no such file")
    refused(tmp_path, "a folder")


def dicom(tmp_path: Path, signal: np.ndarray, edit: Callable[[object], None]) -> Path:

    return write_dicom(tmp_path / "edited.dcm", signal, edit)


def _locked(file: object) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    del file.WaveformSequence
    one = Dataset()
    one.EncryptedContent, one.EncryptedContentTransferSyntaxUID = b"\1\2\3\4", "1.2.840.10008.1.2.1"
    file.EncryptedAttributesSequence = Sequence([one])


def _each(file: object, **values: object) -> None:
    for group in file.WaveformSequence:
        for name, value in values.items():
            for item in [group] if name in group else group.ChannelDefinitionSequence:
                setattr(item, name, value)


def _unit(file: object) -> None:
    for group in file.WaveformSequence:
        for channel in group.ChannelDefinitionSequence:
            channel.ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"


def _sounds(file: object) -> None:
    for group in file.WaveformSequence:
        for channel in group.ChannelDefinitionSequence:
            channel.ChannelSourceSequence[0].CodeValue = channel.ChannelSourceSequence[0].CodeMeaning = "Sound"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_locked, ["encrypted"]),
        (lambda file: delattr(file, "WaveformSequence"), ["a DICOM waveform", "without"]),
        (_unit, ["lead I in V", "mm[Hg]"]),
        (_sounds, ["ECG leads"]),
        (lambda file: _each(file, WaveformSampleInterpretation="MB"), ["waveform samples as"]),
        (lambda file: _each(file, NumberOfWaveformSamples=4000), ["truncated"]),
        (lambda file: _each(file, NumberOfWaveformSamples=2**31), ["values"]),
        (lambda file: _each(file, SamplingFrequency=0), ["damaged"]),
    ],
)
def test_dicom_that_is_no_ecg(
    edit: Callable[[object], None], words: list[str], tmp_path: Path, signal: np.ndarray
) -> None:
    refused(dicom(tmp_path, signal, edit), "edited.dcm", *words)


def test_a_picture_in_dicom_is_no_ecg(real_data: Path) -> None:
    path = real_data / "echo_dicom" / "examples_ybr_color.dcm"
    if not path.is_file():
        pytest.skip(f"no echo at {path}")
    refused(path, "Ultrasound")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": None}, ["no rate"]),
        ({"units": None}, ["no units"]),
        ({"leads": None}, ["no leads"]),
        ({"signal": None}, ["no signal"]),
        ({"rate": "fast"}, ["a rate in Hz"]),
        ({"rate": -1}, ["a rate"]),
        ({"rate": 10**400}, ["a rate", "inf"]),
        ({"rate": 10**5000}, ["a rate", "inf"]),
        ({"rate": np.array([None])}, ["a rate"]),
        ({"units": "mmHg"}, ["lead I in V"]),
        ({"units": ["mV", "mV"]}, ["one unit, or 12"]),
        ({"leads": ["I", "II"]}, ["2 leads by time"]),
        ({"leads": ["A"] * 12}, ["leads named"]),
        ({"leads": ["I"] * 12}, ["I twice"]),
        ({"signal": np.ones((12, 1000))}, ["flat or not recorded"]),
        ({"signal": np.full((12, 1000), np.nan)}, ["flat or not recorded"]),
        ({"signal": np.ones((12, 100))}, ["at least 1 s"]),
        ({"signal": np.ones((12, 12))}, ["axis of the leads is not clear"]),
        ({"signal": np.ones((3, 12, 5))}, ["by time"]),
        ({"signal": np.array([["a"] * 12])}, ["of numbers"]),
        ({"signal": np.ones((12, 9), dtype=object)}, ["of numbers"]),
        ({"signal": np.broadcast_to(np.float32(1), (12, 2**24))}, ["at most"]),
    ],
)
def test_missing_metadata_is_an_error(change: dict[str, object], words: list[str], signal: np.ndarray) -> None:
    refused({"signal": signal, **STATED, **change}, *words)


def test_invalid_tables_are_rejected(tmp_path: Path, signal: np.ndarray) -> None:
    def file(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    refused(file("a.csv", b"I,II\n1,2\n3,4\n"), "a.csv", "no rate")
    refused(file("b.csv", b"# rate: x\nI,II\n1,2\n"), "b.csv")
    refused(file("c.csv", b"# rate: 250\n# units: mV\nI,II\n" + b"1,no\n2,3\n" * 300), "c.csv", "words")
    refused(file("d.csv", b"# rate: 250\n# units: mV\nI,II\n" + b"1,2\n3\n" * 300), "d.csv")
    refused(file("e.csv", b"a,b\n1,2\n"), "e.csv", "leads")
    refused(file("f.csv", b"\xff\xfe\x00"), "f.csv")
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    refused(file("g.npy", pickled.getvalue()), "g.npy", "pickle")
    lying = pickled.getvalue().replace(b"'|O'", b"<f8'").replace(b"(1,)", b"(9,)")
    refused(file("h.npy", lying), "h.npy")
    (tmp_path / "i.json").write_text("[1]")
    refused(file("i.npy", b""), "i.json")
    refused(file("j.pq", b"PAR1"), "j.pq")
    refused(file("k.dcm", b"hello, this is text"), "k.dcm", "got a text file")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "l.parquet")
    refused(tmp_path / "l.parquet", "l.parquet", "columns named after the leads")
    pq.write_table(
        pa.table({"I": ["a"] * 300}).replace_schema_metadata({"rate": "250", "units": "mV"}), tmp_path / "m.pq"
    )
    refused(tmp_path / "m.pq", "m.pq")


def test_an_archive_that_unpacks_to_too_much(
    tmp_path: Path, signal: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", signal=np.zeros((12, 10_000)), **STATED)
    monkeypatch.setattr("modalities.ecg.formats.arrays.MAX_VALUES", 12 * 9_000)
    refused(tmp_path / "bomb.npz", "bomb.npz", "at most 864000 bytes in the array 'signal'")


def test_a_side_file_overrides_only_what_it_states(tmp_path: Path, signal: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", signal)
    (tmp_path / "x.json").write_text(json.dumps(STATED | {"signal": [[1, 2]], "patient": "x"}))
    assert read_ecg(tmp_path / "x.npy").signal.shape == (12, 1000)


@pytest.mark.parametrize("field", range(7))
def test_no_field_of_a_dicom_file_is_quoted(field: int, tmp_path: Path, signal: np.ndarray) -> None:
    """Where a damaged length swallows the next element, any field may hold the patient's name."""
    name = "SECRET^NAME"

    def edit(file: Any) -> None:
        file.PatientName = name
        group = file.WaveformSequence[0]
        file.WaveformSequence = [group]
        channels = group.ChannelDefinitionSequence
        if field == 0:
            file.SOPClassUID = f"1.2.{name}"
            del file.WaveformSequence
        elif field == 1:
            group.WaveformSampleInterpretation = name
        elif field == 2:
            group.SamplingFrequency = 0
        for channel in channels:
            if field == 3:
                channel.ChannelSensitivityUnitsSequence[0].CodeValue = name
            elif field in (4, 5):
                source = channel.ChannelSourceSequence[0]
                source.CodeValue = source.CodeMeaning = channel.ChannelLabel = name
        if field == 5:
            channels[0].ChannelLabel = "I"
        elif field == 6:
            group.NumberOfWaveformChannels = 3

    with warnings.catch_warnings():  # pydicom finds these values odd, which they are
        warnings.simplefilter("ignore")
        path = dicom(tmp_path, signal, edit)
    shown = ""
    try:
        shown = str(read_ecg(path).faults)
    except BadSample as error:
        shown = "".join(traceback.format_exception(error))
    assert ("BadSample" in shown) == (field != 5)
    assert "SECRET" not in shown


def test_dicom_without_its_preamble_is_not_quoted(golden: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bare.dcm").write_bytes(golden["dicom"].read_bytes()[132:])
    refused(tmp_path / "bare.dcm", "DICOM without its preamble")
