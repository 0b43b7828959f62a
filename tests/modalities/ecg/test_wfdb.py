"""WFDB: samples per frame, segments, shifted signals, checksums, links and header fields that no program writes."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from golden_files import write_wfdb

from mmalign.errors import BadSample
from modalities.ecg.formats.mat5 import read_matrix
from modalities.ecg.read import read_ecg

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def beats(rate: float, seconds: float = 10.0) -> np.ndarray:
    """Microvolts as int16: narrow R waves of 1 mV every 0.8 s."""
    time = np.arange(round(seconds * rate)) / rate
    return np.round(1000 * np.exp(-((((time % 0.8) - 0.4) / 0.008) ** 2))).astype("<i2")


def write_frames(folder: Path, rows: list[np.ndarray], per_frame: list[int], names: list[str], rate: str) -> Path:
    """Format 16 with several samples per frame: each frame has all samples of a signal, then those of the next."""
    frames = len(rows[0]) // per_frame[0]
    table = np.concatenate([row.reshape(frames, -1) for row in rows], 1)
    table.astype("<i2").tofile(folder / "m.dat")
    sums = [int(row.astype(np.int64).sum()) % 65536 for row in rows]
    lines = [
        f"m.dat 16x{count} 1000/mV 16 0 {row[0]} {total} 0 {name}"
        for row, count, total, name in zip(rows, per_frame, sums, names, strict=True)
    ]
    (folder / "m.hea").write_text("\n".join([f"m {len(rows)} {rate} {frames}", *lines]) + "\n")
    return folder / "m.hea"


def test_samples_per_frame_multiply_the_rate(tmp_path: Path) -> None:
    """As in MIMIC-IV's waveforms, whose frames are of 62.47 Hz and whose ECG has four samples in each."""
    lead = beats(4 * 62.4725)[:2496]
    head = write_frames(tmp_path, [lead, lead // 2], [4, 4], ["I", "II"], "62.4725")
    ecg = read_ecg(head, strict=True)
    assert ecg.rate == pytest.approx(249.89)
    np.testing.assert_allclose(ecg.signal[0], lead / 1000, atol=1e-6)
    assert ecg.signal[0].max() > 0.99  # the mean of four samples is 0.56


def test_channels_of_another_rate_are_left_out(tmp_path: Path) -> None:
    """As in drivedb, whose respiration has one sample per frame of 15.5 Hz."""
    lead = beats(496.0)[:4960]
    head = write_frames(tmp_path, [lead, lead[:155]], [32, 1], ["ECG I", "RESP"], "15.5")
    ecg = read_ecg(head)
    assert (ecg.rate, ecg.leads) == (496.0, ("I",))
    np.testing.assert_allclose(ecg.signal[0], lead / 1000, atol=1e-6)


def test_samples_per_frame_agree_with_wfdb(tmp_path: Path) -> None:
    import wfdb

    lead = beats(250.0)
    head = write_frames(tmp_path, [lead, lead[::2].copy()], [4, 2], ["I", "RESP"], "62.5")
    theirs = wfdb.rdrecord(str(head.with_suffix("")), smooth_frames=False).e_p_signal
    np.testing.assert_allclose(read_ecg(head).signal[0], theirs[0], atol=1e-6)


def test_leads_of_several_rates_are_rejected(tmp_path: Path) -> None:
    lead = beats(250.0)
    head = write_frames(tmp_path, [lead, lead[::2].copy()], [4, 2], ["I", "II"], "62.5")
    with pytest.raises(BadSample, match="leads of one rate"):
        read_ecg(head)


def test_segments_keep_their_samples_per_frame(tmp_path: Path) -> None:
    """A variable layout: the second segment lacks a lead, and the third is a gap."""
    for name, leads in (("s1", ["II", "V5"]), ("s2", ["II"])):
        (tmp_path / name).mkdir()
        rows = [beats(250.0, 4.0) // (1 + index) for index in range(len(leads))]
        head = write_frames(tmp_path / name, rows, [4] * len(leads), leads, "62.5")
        (tmp_path / f"{name}.dat").write_bytes((tmp_path / name / "m.dat").read_bytes())
        (tmp_path / f"{name}.hea").write_text(
            head.read_text().replace("m.dat", f"{name}.dat").replace("m ", f"{name} ")
        )
    layout = "lay 2 62.5 0\n~ 0x4 1000/mV 16 0 0 0 0 II\n~ 0x4 1000/mV 16 0 0 0 0 V5\n"
    (tmp_path / "lay.hea").write_text(layout)
    (tmp_path / "all.hea").write_text("all/4 2 62.5 750\nlay 0\ns1 250\n~ 250\ns2 250\n")
    ecg = read_ecg(tmp_path / "all.hea", strict=True)
    lead = beats(250.0, 4.0)
    assert (ecg.rate, ecg.leads) == (250.0, ("II", "V5"))
    np.testing.assert_allclose(ecg.signal[0], np.concatenate([lead, np.zeros(1000), lead]) / 1000, atol=1e-6)
    np.testing.assert_allclose(ecg.signal[1, :1000], (lead // 2) / 1000, atol=1e-6)
    assert ecg.valid[0].reshape(3, -1).all(1).tolist() == [True, False, True]
    assert ecg.valid[1].reshape(3, -1).any(1).tolist() == [True, False, False]
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    assert read_ecg(files) == ecg


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("all/2 12 250 1000\ns1 500\n", "a damaged one"),
        ("all/2 12 250 1200\ns1 500\ns1 500\n", "segments of 1200 frames"),
        ("all/2 12 250\ns1 -500\ns1 500\n", "segments of None frames"),
        ("all/2 12 250 1000\nall 500\nall 500\n", "segments of segments"),
        ("all/2 12 250 1000\n~ 500\n~ 500\n", "segments with signals"),
        ("all/1 12 250 1000\n../s1 1000\n", "the name '../s1"),
        ("all/1 12 250 99999999999\ns1 99999999999\n", "values"),
        ("all/1 12 250 1000\ns1 1000\n", "a segment s1 of 1000 frames"),
    ],
)
def test_inconsistent_segments_are_rejected(lines: str, words: str, tmp_path: Path, signal: np.ndarray) -> None:
    write_wfdb(tmp_path, signal[:, :500], name="s1")
    (tmp_path / "all.hea").write_text(lines)
    with pytest.raises(BadSample, match="expected") as caught:
        read_ecg(tmp_path / "all.hea")
    assert words in str(caught.value)


def test_a_checksum_is_checked_in_every_storage_format(tmp_path: Path, signal: np.ndarray) -> None:
    """Format 310 is read by the package wfdb."""
    digital = np.round(signal[:1] * 100).astype(np.int64)[0][:999]
    triples = digital.reshape(-1, 3)
    one = ((triples[:, 0] << 1) & 0x07FE) | ((triples[:, 2] & 0x1F) << 11)
    two = ((triples[:, 1] << 1) & 0x07FE) | (((triples[:, 2] >> 5) & 0x1F) << 11)
    np.stack([one, two], 1).astype("<u2").tofile(tmp_path / "p.dat")
    for extra, faults in ((0, 0), (1, 1)):
        total = (int(digital.sum()) + extra) % 65536
        (tmp_path / "p.hea").write_text(f"p 1 250 999\np.dat 310 100/mV 10 0 {digital[0]} {total} 0 II\n")
        ecg = read_ecg(tmp_path / "p.hea")
        np.testing.assert_allclose(ecg.signal[0], digital / 100, atol=1e-6)
        assert len(ecg.faults) == faults


def test_a_first_sample_and_checksum_of_zero_are_not_stated(tmp_path: Path) -> None:
    """Writers that compute neither put 0 for both; a checksum of 0 beside a first sample is compared."""
    lead = beats(250.0)
    lead.tofile(tmp_path / "m.dat")
    for first, strict_faults in ((0, 0), (5, 1)):
        (tmp_path / "m.hea").write_text(f"m 1 250 {len(lead)}\nm.dat 16 1000/mV 16 0 {first} 0 0 II\n")
        assert len(read_ecg(tmp_path / "m.hea").faults) == strict_faults
    (tmp_path / "m.hea").write_text(f"m 1 250 {len(lead)}\nm.dat 16 1000/mV 16 0 0 0 0 II\n")
    assert read_ecg(tmp_path / "m.hea", strict=True).signal.max() == pytest.approx(1.0)


def test_fewer_signals_than_stated_are_a_damaged_header(tmp_path: Path, signal: np.ndarray) -> None:
    head = write_wfdb(tmp_path, signal)
    head.write_text("\n".join(head.read_text().splitlines()[:7]) + "\n")
    with pytest.raises(BadSample, match="a damaged one"):
        read_ecg(head)


@pytest.mark.parametrize("fmt", ["16", "310"])
def test_symbolic_link_out_of_the_folder_is_rejected(fmt: str, tmp_path: Path, signal: np.ndarray) -> None:
    (tmp_path / "data").mkdir()
    head = write_wfdb(tmp_path / "data", signal)
    os.rename(tmp_path / "data" / "rec.dat", tmp_path / "secret.dat")
    (tmp_path / "data" / "rec.dat").symlink_to(tmp_path / "secret.dat")
    head.write_text(head.read_text().replace(" 16 ", f" {fmt} "))
    with pytest.raises(BadSample, match="a link that leaves it"):
        read_ecg(head)
    (tmp_path / "data" / "rec.dat").unlink()
    (tmp_path / "data" / "other.dat").write_bytes((tmp_path / "secret.dat").read_bytes())
    (tmp_path / "data" / "rec.dat").symlink_to("other.dat")
    head.write_text(head.read_text().replace(" 310 ", " 16 "))
    assert read_ecg(head).signal.shape == signal.shape


def test_a_header_that_is_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, signal: np.ndarray) -> None:
    (tmp_path / "data").mkdir()
    write_wfdb(tmp_path, signal)
    (tmp_path / "data" / "rec.dat").write_bytes((tmp_path / "rec.dat").read_bytes())
    (tmp_path / "data" / "rec.hea").symlink_to(tmp_path / "rec.hea")
    with pytest.raises(BadSample, match="a link that leaves it"):
        read_ecg(tmp_path / "data" / "rec.dat")


@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_a_side_file_that_is_a_link_out_of_the_folder(kind: str, golden: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "data" / golden[kind].name
    file.parent.mkdir()
    file.write_bytes(golden[kind].read_bytes())
    (tmp_path / "secret.json").write_text("{}")
    file.with_suffix(".json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(BadSample, match="a link that leaves it"):
        read_ecg(file)


@pytest.mark.parametrize(
    "line",
    [
        "r.dat 16 1000({0})/mV 16 0 0 0 0 II",
        "r.dat 16 {0}/mV 16 0 0 0 0 II",
        "r.dat 16 1000/mV 16 {0} 0 0 0 II",
        "r.dat 16x{0} 1000/mV 16 0 0 0 0 II",
        "r.dat 16+{0} 1000/mV 16 0 0 0 0 II",
        "r.dat 16x0 1000/mV 16 0 0 0 0 II",
    ],
)
@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_of_many_digits_are_bad_samples(line: str, digits: int) -> None:
    data = beats(250.0).tobytes()
    with pytest.raises(BadSample):
        read_ecg({"r.hea": f"r 1 250 2500\n{line.format('9' * digits)}\n".encode(), "r.dat": data})
    with pytest.raises(BadSample):
        read_ecg({"r.hea": f"r 1 {'9' * digits} 2500\nr.dat 16 1000/mV 16 0 0 0 0 II\n".encode(), "r.dat": data})


def test_signals_without_a_name_are_no_leads() -> None:
    files = {"r.hea": b"r 1 250 2500\nr.dat 16 1000/mV\n", "r.dat": beats(250.0).tobytes()}
    with pytest.raises(BadSample, match="leads named as in"):
        read_ecg(files)


def test_a_matlab_member_that_states_other_sizes_than_it_has() -> None:
    """Sizes are compared before memory is allocated, and a packed element unpacks up to a limit."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    def file(columns: int, values: bytes) -> bytes:
        parts = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", 1, columns)) + element(1, b"val")
        packed = zlib.compress(element(14, parts + element(9, values)))
        return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(packed)) + packed

    values = np.round(np.random.default_rng(0).normal(0, 300, 1000))
    np.testing.assert_array_equal(read_matrix(file(1000, values.tobytes()), "r", most=1000), [values])
    for columns, content, words in (
        (2**30, b"", "1..1000 values"),
        (1000, bytes(16), "a damaged one"),
        (1000, bytes(1 << 20), "a damaged one"),
    ):
        with pytest.raises(BadSample) as caught:
            read_matrix(file(columns, content), "r", most=1000)
        assert words in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["i2", "u1", "f4", "f8", "i4"])
def test_matlab_matrices_equal_scipys(kind: str, compressed: bool) -> None:
    from scipy.io import loadmat, savemat

    stream = io.BytesIO()
    matrix = np.random.default_rng(1).integers(0, 100, (3, 7)).astype(kind)
    savemat(stream, {"other": np.ones(3), "val": matrix, "text": "x"}, do_compression=compressed)
    stream.seek(0)
    ours = read_matrix(stream.getvalue(), "r", most=100)
    np.testing.assert_array_equal(ours, loadmat(stream)["val"])
