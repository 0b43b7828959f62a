"""The same millivolts from every format, by any name and in any order."""

import logging
from pathlib import Path

import numpy as np
import pytest
from golden_files import read_by_wfdb, write_challenge, write_wfdb

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.errors import BadSample
from mmalign.registry import load
from modalities.ecg import MODALITY
from modalities.ecg.formats.leads import lead_of, millivolts
from modalities.ecg.read import read_ecg
from modalities.ecg.sample import LEADS

FORMATS = ("wfdb", "wfdb-24", "wfdb-32", "mat", "dicom", "edf", "csv", "npy", "npz", "parquet")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_millivolts(kind: str, golden: dict[str, Path], signal: np.ndarray) -> None:
    ecg = read_ecg(golden[kind], strict=True)
    assert ecg.leads == LEADS
    assert (ecg.rate, ecg.signal.dtype, ecg.signal.shape) == (250.0, np.float32, (12, 1000))
    assert ecg.valid.all()
    np.testing.assert_allclose(ecg.signal, signal, atol=1e-3)


@pytest.mark.parametrize("kind", ["dicom", "edf", "npz", "parquet"])
def test_bytes_are_read_as_the_file_is(kind: str, golden: dict[str, Path]) -> None:
    assert read_ecg(golden[kind].read_bytes()) == read_ecg(golden[kind])


@pytest.mark.parametrize("name", ["rec", "rec.hea", "rec.dat"])
def test_a_wfdb_record_has_three_names(name: str, golden: dict[str, Path]) -> None:
    assert read_ecg(str(golden["wfdb"].with_name(name))) == read_ecg(golden["wfdb"])


def test_wfdb_from_memory(golden: dict[str, Path]) -> None:
    files = {file: golden["wfdb"].with_name(file).read_bytes() for file in ("rec.hea", "rec.dat")}
    assert read_ecg(files) == read_ecg(golden["wfdb"])
    with pytest.raises(BadSample, match=r"rec\.hea: .*rec\.dat"):
        read_ecg({"rec.hea": files["rec.hea"]})


@pytest.mark.parametrize("fmt", ["16", "24", "32", "80", "212", "61"])
def test_storage_formats_agree_with_wfdb(fmt: str, tmp_path: Path, signal: np.ndarray) -> None:
    holes = signal[[0, 1, 6]].copy()
    holes[2, 100:120] = np.nan
    head = write_wfdb(tmp_path, holes, "16" if fmt == "61" else fmt, sig_name=["I", "II", "V1"])
    if fmt == "61":  # format 16 with its bytes the other way round, which wfdb reads and does not write
        head.write_text(head.read_text().replace("rec.dat 16", "rec.dat 61"))
        dat = head.with_suffix(".dat")
        dat.write_bytes(np.fromfile(dat, "<i2").astype(">i2").tobytes())
    theirs = read_by_wfdb(head)
    ours = read_ecg(head)
    rows = [ours.leads.index(lead) for lead in ("I", "II", "V1")]
    np.testing.assert_allclose(ours.signal[rows], np.nan_to_num(theirs), atol=1e-6)
    np.testing.assert_array_equal(ours.valid[rows], np.isfinite(theirs))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_segments_are_joined(tmp_path: Path, signal: np.ndarray) -> None:

    for name, part in (("s1", signal[:, :500]), ("s2", signal[:, 500:])):
        write_wfdb(tmp_path, part, name=name)
    (tmp_path / "all.hea").write_text("all/2 12 250 1000\ns1 500\ns2 500\n")
    np.testing.assert_allclose(read_ecg(tmp_path / "all").signal, signal, atol=1e-3)


def test_matlab_version_5(tmp_path: Path, signal: np.ndarray) -> None:
    from scipy.io import savemat

    file = write_challenge(tmp_path, signal)
    digital = np.round(signal * 1000).astype(np.int16) - 20
    savemat(file, {"val": digital}, format="5")
    np.testing.assert_allclose(read_ecg(file, strict=True).signal, signal, atol=1e-3)


def test_pydicoms_own_recording_and_its_own_physical_values() -> None:
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file("waveform_ecg.dcm")
    ecg = read_ecg(path)
    assert (ecg.leads, ecg.rate, ecg.signal.shape) == (LEADS, 1000.0, (12, 10000))
    theirs = pydicom.dcmread(path).waveform_array(0).T / 1000  # microvolts; the first of its groups is the rhythm
    np.testing.assert_allclose(ecg.signal, theirs, atol=1e-4)


@pytest.mark.parametrize("kind", ["dicom", "edf"])
def test_patient_fields_are_neither_stored_nor_logged(
    kind: str, golden: dict[str, Path], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    data = golden[kind].read_bytes()
    assert b"SECRET-77" in data
    said = [repr(read_ecg(data)), repr(vars(read_ecg(data)))]
    for size in (200, 700, 2500, len(data) // 2, len(data) - 1):
        with pytest.raises(BadSample) as caught:
            read_ecg(data[:size])
        said.append(str(caught.value))
    said += [caplog.text, *capsys.readouterr()]
    assert "SECRET" not in " ".join(said)
    assert "Doe" not in " ".join(said)


def test_order_and_spelling_do_not_matter(signal: np.ndarray) -> None:
    names = [
        "C6",
        "MDC_ECG_LEAD_V5",
        "v4",
        "Lead V3",
        "ECG V2",
        "V1 (precordial)",
        "AVF",
        "avl",
        "aVR",
        "DIII",
        "d2",
        "LI",
    ]
    given = {"signal": signal[::-1], "rate": 250, "units": ["uV"] + ["mV"] * 11, "leads": names}
    given["signal"] = np.concatenate([signal[11:] * 1000, signal[10::-1]])
    ecg = read_ecg(given, strict=True)
    assert ecg.leads == LEADS
    np.testing.assert_allclose(ecg.signal, signal, atol=1e-6)


@pytest.mark.parametrize("name", ["", "V7", "SpO2", "III aVF", "D4", "MDC_ECG_LEAD_", "ECG", "resp"])
def test_other_channels_are_no_leads(name: str) -> None:
    assert lead_of(name) is None


@pytest.mark.parametrize("unit", ["V", "mV", "uV", "\u00b5V", "\u03bcV", "nV", "microvolt"])
def test_units_are_converted_to_millivolts(unit: str) -> None:
    assert millivolts(unit) in (1e3, 1.0, 1e-3, 1e-6)


@pytest.mark.parametrize("pair", [("I", "II"), ("III", "aVF"), ("aVR", "aVL"), ("II", "aVL")])
def test_missing_limb_leads_are_derived_from_any_two(pair: tuple[str, str], signal: np.ndarray) -> None:
    kept = [LEADS.index(lead) for lead in pair] + list(range(6, 12))
    ecg = read_ecg({"signal": signal[kept], "rate": 250, "units": "mV", "leads": [LEADS[k] for k in kept]})
    assert ecg.leads == LEADS
    np.testing.assert_allclose(ecg.signal, signal, atol=1e-6)


def test_three_leads_are_accepted_with_a_warning(signal: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    ecg = read_ecg({"signal": signal[[0, 6, 10]], "rate": 250, "units": "mV", "leads": ["I", "V1", "V5"]}, strict=True)
    assert ecg.leads == ("I", "V1", "V5")
    assert "3 of the 12 leads: I, V1, V5" in caplog.text


def test_cabrera_inverts_avr(signal: np.ndarray) -> None:
    order = [4, 0, 3, 1, 5, 2]
    leads = ["aVL", "I", "-aVR", "II", "aVF", "III"]
    ecg = read_ecg(
        {"signal": signal[order] * [[1], [1], [-1], [1], [1], [1]], "rate": 250, "units": "mV", "leads": leads}
    )
    assert not ecg.faults
    np.testing.assert_allclose(ecg.signal, signal[:6], atol=1e-6)


def test_missing_samples_are_masked(signal: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    broken = signal.copy()
    broken[7] = 0.3
    broken[8, 300:400] = np.nan
    broken[9, 5] = np.inf
    given = {"signal": broken, "rate": 250, "units": "mV", "leads": LEADS}
    with caplog.at_level(logging.WARNING):
        ecg = read_ecg(given)
    assert not ecg.valid[7].any()
    assert ecg.valid[8].sum() == 900
    assert not ecg.valid[9, 5]
    assert ecg.valid.sum() == 12000 - 1000 - 100 - 1
    assert ecg.faults == ("lead V2 is flat or empty",)
    assert "V2 is flat" in caplog.text
    with pytest.raises(BadSample, match="V2 is flat"):
        read_ecg(given, strict=True)
    with pytest.raises(BadSample, match="V2 is flat"):
        read_ecg(ecg, strict=True)


def test_real_records_read_as_wfdb_reads_them(real_data: Path) -> None:
    folder = real_data / "ptbxl_500"
    if not folder.is_dir():
        pytest.skip(f"no PTB-XL records at {folder}")
    heads = sorted(folder.glob("records*/*/*.hea"))
    assert len(heads) > 400
    assert not any(MODALITY.read(head).faults for head in heads[::9])
    for head in heads[:: len(heads) // 6]:
        theirs = read_by_wfdb(head)
        np.testing.assert_allclose(MODALITY.read(head).signal, theirs, atol=1e-6)


def test_a_table_may_name_wfdb_records_without_suffix(golden: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"ecg,text\n{golden['wfdb'].stem},normal\nmissing,none\n")
    config = DataConfig(
        manifest=str(tmp_path / "t.csv"), files=str(golden["wfdb"].parent), columns={"ecg": "ecg", "text": "text"},
        validation=0.0, max_rejected=1,
    )  # fmt: skip
    data = Dataset.open(config, {"ecg": MODALITY, "text": load("modalities", "text")})
    assert list(data.split("train").samples("ecg")) == [read_ecg(golden["wfdb"])]
    assert [rejected.kind for rejected in data.rejected] == ["missing file"]


def edf(labels: list[str], rows: np.ndarray, rate: int = 200) -> bytes:
    """EDF of one-second records, microvolts in tenths."""

    def field(value: object, width: int) -> bytes:
        return str(value).encode()[:width].ljust(width)

    count, seconds = len(labels), rows.shape[1] // rate
    head = field(0, 8) + field("X", 160) + field("01.01.0000.00.00", 16) + field(256 * (count + 1), 8) + field("", 44)
    head += field(seconds, 8) + field(1, 8) + field(count, 4) + b"".join(field(label, 16) for label in labels)
    for value, width in (("", 80), ("uV", 8), (-3276.8, 8), (3276.7, 8), (-32768, 8), (32767, 8), ("", 80), (rate, 8)):
        head += field(value, width) * count
    stored = np.round(rows * 10).astype("<i2").reshape(count, seconds, rate).transpose(1, 0, 2)
    return head + field("", 32) * count + stored.tobytes()


@pytest.mark.parametrize(
    ("labels", "leads"),
    [
        (["C3", "C4", "O1", "O2"], None),  # an EEG
        (["C3", "C4"], None),
        (["C3 (A2)", "C4 (A1)"], None),
        (["C3-M2", "C4-M1", "ECG II"], ["II"]),  # polysomnography
        (["C3", "C4", "F3", "ECG II"], ["II"]),
        (["C3", "C4", "EOG left", "II"], ["II"]),
        (["C3", "Cz", "I"], ["I"]),
        (["I", "II", "C1", "C2"], ["I", "II", "V1", "V2"]),  # an ECG
        (["aVF", "C5"], ["aVF", "V5"]),
        (["MDC_ECG_LEAD_C3"], ["V3"]),
        (["V3", "O1"], ["V3"]),
    ],
)
def test_electrodes_of_an_eeg_are_no_chest_leads(labels: list[str], leads: list[str] | None, tmp_path: Path) -> None:
    rows = 40 * np.random.default_rng(0).normal(size=(len(labels), 2000))
    table = "# rate: 200\n# units: uV\n" + ",".join(labels) + "\n"
    (tmp_path / "t.csv").write_text(table + "".join(",".join(map(str, row)) + "\n" for row in rows.T))
    stated = {"signal": rows, "rate": 200, "units": "uV", "leads": labels}
    for source in (edf(labels, rows), tmp_path / "t.csv", stated):
        if leads is None:
            with pytest.raises(BadSample, match="leads"):
                read_ecg(source)
            continue
        read = read_ecg(source)
        assert set(leads) <= set(read.leads)
        assert not {"V3", "V4"} & (set(read.leads) - set(leads))


def test_a_table_that_is_cut_in_its_last_row_is_a_fault(golden: dict[str, Path], tmp_path: Path) -> None:
    """`0.1234` cut to `0.12` is a number too; the end of the line is missing."""
    text = golden["csv"].read_text()
    for cut in (1, 2, 3, 4):
        (tmp_path / "cut.csv").write_text(text[:-cut])
        assert any("may be cut" in fault for fault in read_ecg(tmp_path / "cut.csv").faults)
        with pytest.raises(BadSample, match="may be cut"):
            read_ecg(tmp_path / "cut.csv", strict=True)
    assert not read_ecg(golden["csv"]).faults
