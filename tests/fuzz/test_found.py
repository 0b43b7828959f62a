"""What the fuzzer has found, each with a short input: refused in one line, and without a word of a library."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign import registry
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.files.open import open_store
from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from mmalign.evaluation.prompts.contrast_prompts import ValuePrompts
from tests.fuzz.seeds.reading import TESTS

assert TESTS  # the path of the golden files


def refused(modality: str, source: Any, caplog: pytest.LogCaptureFixture | None = None) -> str:
    reader = registry.load("modalities", modality)
    with pytest.raises(BadSample) as caught:  # and no warning, which would be an error
        reader.read(source)
    assert "\n" not in str(caught.value)
    assert caplog is None or not caplog.records, "a library has logged something"
    return str(caught.value)


@pytest.mark.parametrize("path", ["x" * 5000, "a/" * 3000, "a\0b", "", ".", "/", "/dev/null", "x" * 252, "~none/x"])
@pytest.mark.parametrize("modality", sorted(registry.names("modalities")))
def test_paths_that_cannot_be_opened(modality: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    suffix = {"ecg": ".npy", "molecule": ".mol"}.get(modality, "")
    if modality != "text":
        refused(modality, path + suffix)
        refused(modality, Path(path))


@pytest.mark.parametrize("name", ["x" * 5000, "a" * 300 + "/b.png"])
def test_names_that_the_system_does_not_take(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadSample):
        open_store(tmp_path).fetch(name)


def test_a_graph_of_fewer_than_no_nodes() -> None:
    for count in (-1, 0):
        assert "1 to" in refused("graph", {"edge_index": np.zeros((2, 0), np.int64), "num_nodes": count})


def test_names_that_are_not_unicode() -> None:
    """Python's regular expressions raise a SystemError on them."""
    leads = np.array(["I", "II"])
    leads.view(np.uint32)[0] = 0x110000
    stream = io.BytesIO()
    np.savez(stream, signal=np.random.default_rng(0).normal(size=(2, 500)), rate=500, units="mV", leads=leads)
    assert "not Unicode" in refused("ecg", stream.getvalue())


def test_numbers_beyond_their_type_raise_no_warning() -> None:
    for values in (np.full((2, 500), np.inf, np.float16), np.full((2, 500), 1e308)):
        refused("ecg", {"signal": values, "rate": 500, "units": "uV", "leads": ["I", "II"]})
    stream = io.BytesIO()
    np.save(stream, np.array([1e308, np.nan]))
    refused("vector", stream.getvalue())
    refused("bag", stream.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        b"v 1 2\nv 3 4\nv 5 6\nf 1 2 3\n",
        b"OFF\n3 1 0\n0 0 nan\n1 0 0\n0 1 0\n3 0 1 2\n",
        b"solid x\nfacet normal 0 0\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nendloop\nendfacet\nendsolid\n",
        b"x y z\n",
    ],
    ids=["two-coordinates", "nan", "half-a-normal", "no-rows"],
)
def test_invalid_meshes_are_rejected(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    refused("pointcloud", data, caplog)


@pytest.mark.parametrize("chunks", [0xFFFFFFFF, 0x7FFFFFFF, -1])
def test_a_laz_table_of_billions_of_chunks(chunks: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The decoder would reserve memory for all of them, and end the process where there is none."""
    import golden_clouds as golden

    points, _, _ = golden.cloud()
    data = bytearray(golden.cloud_las(tmp_path, "laz", points, None))
    start = int.from_bytes(data[96:100], "little")
    table = int.from_bytes(data[start : start + 8], "little")
    if chunks < 0:
        data[start : start + 8] = (len(data) + 5).to_bytes(8, "little")
    else:
        data[table + 4 : table + 8] = chunks.to_bytes(4, "little")
    assert "table of compressed chunks" in refused("pointcloud", bytes(data), caplog)


def test_a_pipe_in_a_published_data_set(tmp_path: Path) -> None:
    from tests.modalities.pointcloud.test_published import pointnet_release

    pointnet_release(tmp_path)
    for name in ("ply_data_test0.h5", "shape_names.txt"):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match=name):
            registry.load("sources", "modelnet40")(SourceConfig(source="modelnet40", manifest=str(tmp_path)))
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(kept)


def test_a_saved_data_set_with_a_damaged_name(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(2)}, tmp_path / "data.pt")
    data = bytearray((tmp_path / "data.pt").read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 9] |= 8  # the name is UTF-8
    data[entry + 46] = 0xFF
    (tmp_path / "data.pt").write_bytes(data)
    with pytest.raises(UserError, match=r"data\.pt: expected"):
        registry.load("sources", "pyg")(SourceConfig(source="pyg", manifest=str(tmp_path)))


def test_a_class_without_a_name(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = {"t": ["a", "b"], "label": [0, 1]}
    kinds = {"t": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "dog"])}
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).save_to_disk(str(tmp_path / "d"))
    info = tmp_path / "d" / "dataset_info.json"
    info.write_text(info.read_text().replace('"cat",', ""))
    config = DataConfig("datasets", str(tmp_path / "d"), columns={"text": "t", "label": "label"})
    with pytest.raises(UserError, match=r"classes 0\.\.0 in column 'label', got 1"):
        Dataset.open(config, {"text": registry.load("modalities", "text")})


def test_offsets_outside_of_a_mapped_column(tmp_path: Path) -> None:
    """Arrow ends the process on them; a text that is not UTF-8 rejects its row alone."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"t": ["abc", "defg", "hi"]}).save_to_disk(str(tmp_path / "d"))
    file = tmp_path / "d" / "data-00000-of-00001.arrow"
    data = file.read_bytes()
    offsets = np.array([0, 3, 7, 9], np.int32)
    config = DataConfig("datasets", str(tmp_path / "d"), columns={"text": "t"}, max_rejected=1.0)
    file.write_bytes(data.replace(b"defg", b"d\xffff"))
    assert [one.location for one in Dataset.open(config, {"text": registry.load("modalities", "text")}).rejected] == [
        "d:1"
    ]
    offsets[1] = 1 << 30
    file.write_bytes(data.replace(np.array([0, 3, 7, 9], np.int32).tobytes(), offsets.tobytes()))
    with pytest.raises(UserError, match=r"column 't' is damaged: Offset invariant failure"):
        Dataset.open(config, {"text": registry.load("modalities", "text")})


def test_smiles_of_the_corpus_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "validation.txt").write_text("CID\tSMILES\tdescription\n1\tCCO\tit is a spirit\n")
    (tmp_path / "align_smiles.txt").write_bytes(b"C\xff\n")
    source = registry.load("sources", "pcdes")(SourceConfig("pcdes", str(tmp_path)))
    with pytest.raises(UserError, match="SMILES a line in UTF-8"):
        source.corpus("molecule")


def test_an_sdf_without_properties(tmp_path: Path) -> None:
    """Its molecules are read: a record may end after `M  END`."""
    from modalities.molecule.sources.sdf import read_sdf

    (tmp_path / "a.sdf").write_text("one\n\n\nM  END\n$$$$\ntwo\n\n\nM  END\n>  <A>\n1\n\n$$$$\n")
    rows = list(read_sdf(tmp_path / "a.sdf").rows(["name", "A"]))
    assert [row.cells for row in rows] == [{"name": "one", "A": None}, {"name": "two", "A": "1"}]


def test_two_records_of_one_id_at_one_place() -> None:
    from mmalign.data.sources.base import Record
    from mmalign.data.validation import vet

    records = [Record("a", "list:a", {"t": ("x",)}, None), Record("a", "list:a", {"t": ("y",)}, None)]
    rejected = vet(records, ["t"], {"t": "t"}).rejected
    assert list(rejected) == [1]
    assert "an earlier record of this place" in rejected[1].reason


@pytest.mark.parametrize("line", ["02691156-a/b.npy", "02691156-\0.npy", f"02691156-{'x' * 300}.npy", "..\\x.npy"])
def test_a_list_of_files_with_other_names(line: str, tmp_path: Path) -> None:
    from tests.fuzz.seeds.sources import SOURCES

    write = SOURCES["shapenet55"].write
    assert write is not None
    write(tmp_path)
    (tmp_path / "train.txt").write_text(line + "\n")
    with pytest.raises(UserError, match=r"train\.txt: expected"):
        registry.load("sources", "shapenet55")(SourceConfig(source="shapenet55", manifest=str(tmp_path)))


def test_signalling_nan_in_points() -> None:
    """NumPy warns when it casts one."""
    points = np.zeros((20, 3), np.float32)
    points.view(np.uint32)[3, 1] = 0x7FA00000
    assert "finite coordinates" in refused("pointcloud", points)
    assert "corners" in refused("pointcloud", {"points": np.eye(3), "faces": np.array([[0, 1, 5]])})
    assert "triangles" in refused("pointcloud", {"points": np.eye(3), "faces": np.array(2)})


@pytest.mark.parametrize("start", [100, 243])
def test_a_las_header_of_billions_of_records(start: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """laspy would read each of them beyond the end of the file."""
    import golden_clouds as golden

    data = bytearray(golden.cloud_las(tmp_path, "las", golden.cloud()[0], None))
    if start == 243:
        data[24:26] = b"\x01\x04"
    data[start : start + 4] = b"\xff\xff\xff\xfe"
    assert "records" in refused("pointcloud", bytes(data), caplog)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts threads as Linux does")
def test_reading_videos_leaves_no_threads() -> None:
    """PyAV starts some for each converted frame, and they live until it is collected."""
    import gc
    import threading

    from tests.modalities.video.video_files import numbered, write_video

    def threads() -> int:
        return int(Path("/proc/self/status").read_text().split("Threads:")[1].split()[0])

    data = write_video([numbered(index, 32, 56) for index in range(4)])
    reader = registry.load("modalities", "video")
    reader.read(data)
    gc.collect()
    before, known = threads(), threading.active_count()
    gc.disable()
    try:
        for _ in range(4):
            reader.read(data)
        assert threads() - before <= threading.active_count() - known
    finally:
        gc.enable()


def test_a_pipe_in_a_saved_data_set(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "state.json").write_text("{}")
    os.mkfifo(tmp_path / "data.arrow")
    with pytest.raises(UserError, match=r"data\.arrow: expected a file of a data set, got a device or pipe"):
        registry.load("sources", "datasets")(SourceConfig("datasets", str(tmp_path), columns={"text": "t"}))


def test_a_zip_whose_extra_field_ends_early(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", b"x")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 28 : entry + 30] = b"\0\0"  # the length of the name
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.zip: expected a zip, got a damaged one"):
        open_store(tmp_path / "a.zip")


def test_messages_are_bounded() -> None:
    """A name in a file may have any length."""
    for error in (UserError(f"no column {'x' * 70_000}; known: a"), BadSample("y" * 70_000, "a name", "it")):
        assert 4000 <= len(str(error)) < 4100
        assert "more characters" in str(error)
    assert str(UserError("z" * 4000)) == "z" * 4000


def test_normals_whose_squares_overflow_or_vanish_are_unit_normals() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    normals = np.repeat([[3e300, 0.0, 4e300], [0.0, -1e-300, 0.0], [0.0, 0.0, 0.0]], 3, axis=0)
    cloud = registry.load("modalities", "pointcloud").read({"points": points, "normals": normals})
    expected = np.repeat([[0.6, 0.0, 0.8], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0]], 3, axis=0)
    np.testing.assert_allclose(np.sort(cloud.normals, axis=0), np.sort(expected, axis=0), atol=1e-6)


def test_an_integer_beyond_the_largest_float_is_no_value_of_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"templates: ['EF {{value}}']\nvalues: [1, {'9' * 310}]\n")
    with pytest.raises(UserError, match="expected a finite number, got an integer beyond the largest float"):
        ValuePrompts.load(tmp_path / "p.yaml")


@pytest.mark.parametrize("gain", ["1e-310", "5e-324", "1e-15", "1e300", "-1e-310"])
def test_a_gain_that_is_no_converter(gain: str) -> None:
    """Division by it gives infinite voltages, or none at all."""
    samples = np.arange(500, dtype="<i2").tobytes()
    head = f"r 1 500 500\nr.dat 16 {gain}/mV 16 0 0 0 0 II\n".encode()
    assert "WFDB header" in refused("ecg", {"r.hea": head, "r.dat": samples})


def test_voltages_beyond_a_float_raise_no_warning_in_any_format() -> None:
    """The right value: a lead that is infinite or below the noise of every amplifier is masked, the others stay."""
    reader = registry.load("modalities", "ecg")
    wave = np.sin(np.arange(500) / 10)
    for factor in (1e308, 1e-13, 1e-300):
        with np.errstate(all="ignore"):
            signal = np.stack([wave, wave * factor * 100])
        ecg = reader.read({"signal": signal, "rate": 500, "units": "V", "leads": ["V1", "V2"]})
        assert ecg.valid.any(axis=1).tolist() == [True, False]
        assert np.abs(ecg.signal[0] - 1000 * wave).max() < 1e-3
        assert not ecg.signal[1].any()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300", "-1e300", "300"])
def test_colours_of_a_text_table_that_are_no_colours(value: str) -> None:
    rows = [f"{index} {index % 3} 0 {value} 2 3" for index in range(20)]
    words = refused("pointcloud", "\n".join(["x y z red green blue", *rows]).encode())
    assert "colours as integers in 0..255 or floats in 0..1, got float64" in words


@pytest.mark.parametrize("name", ["id", "group", "label", "split"])
def test_a_source_whose_names_are_blank(name: str) -> None:
    """Whatever a source lists: a record without an id is rejected; a blank group, label or split is none."""
    from mmalign.data.sources.base import Record, Source

    class Blank(Source):
        def records(self) -> list[Record]:
            names = {"id": "2", "group": "g", "label": "dog", "split": "train"} | {name: " "}
            label, group, split = (names[key] for key in ("label", "group", "split"))
            values = {"text": ("a dog",)}
            return [
                Record("1", "here:1", values, "g", ("dog",), "train"),
                Record(names["id"], "here:2", values, group, (label, "cat"), split),
            ]

        def fetch(self, name: str) -> bytes:
            raise AssertionError(name)

        def fingerprint(self) -> str:
            return "0" * 64

    registry.register("sources", "blank", Blank)
    try:
        config = DataConfig("blank", columns={"text": "text"}, max_rejected=1.0)
        data = Dataset.open(config, {"text": registry.load("modalities", "text")}, accept_all=True)
    finally:
        registry.unregister("sources", "blank")
    rejected = {"id": "expected an id, got none", "split": "expected the name of a split"}.get(name)
    assert [rejected in one.reason for one in data.rejected if rejected] == ([True] if rejected else [])
    if rejected:
        assert len(data.split("all")) == 1
        return
    second = data.split("all").records[1]
    assert (second.group, second.labels) == {"group": (None, ("dog", "cat")), "label": ("g", ("cat",))}[name]


@pytest.mark.parametrize(
    ("modality", "change"),
    [
        ("ecg", {"units": ["mV", ["mV", "uV"]]}),
        ("ecg", {"leads": [["I"], ["II", "III"]]}),
        ("ecg", {"signal": [[1.0], [1.0, 2.0]]}),
        ("pointcloud", {"points": [[1.0], [1.0, 2.0, 3.0]]}),
        ("pointcloud", {"points": np.eye(3), "colours": [[1.0], [1.0, 2.0, 3.0]]}),
        ("echo", {"frames": [[1], [1, 2]], "rate": 30}),
        ("video", {"frames": [[1], [1, 2]], "rate": 30}),
        ("graph", {"edge_index": [[0], [0, 1]], "num_nodes": 2}),
        ("vector", [[1.0], [1.0, 2.0]]),
        ("bag", [[1.0], [1.0, 2.0]]),
        ("image", [[1.0], [1.0, 2.0]]),
    ],
)
def test_lists_of_unequal_length(modality: str, change: Any) -> None:
    wave = np.sin(np.arange(1000).reshape(2, 500))
    ecg = {"signal": wave, "rate": 500, "units": "mV", "leads": ["I", "II"]}
    refused(modality, ecg | change if modality == "ecg" else change)
