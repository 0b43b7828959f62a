"""Files that are damaged, locked, too large, or something else: refused by name, and no patient is quoted."""

import io
import json
import traceback
import warnings
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from echo_files import (
    FRAMES,
    JPEG,
    JPEG_2000,
    RLE,
    colours,
    jpeg,
    jpeg_2000,
    luma,
    region,
    write_dicom,
    write_video,
)

from mmalign.errors import BadSample
from modalities.common.reading.video_file import container
from modalities.echo.read import read_echo
from modalities.echo.sample import Echo

RGB = colours()
GREY = np.rint(luma(RGB)).astype(np.uint8)


def refused(source: object, *words: str) -> None:
    with pytest.raises(BadSample) as caught:
        read_echo(source)
    message = str(caught.value)
    assert "\n" not in message
    assert "Doe" not in "".join(traceback.format_exception(caught.value))
    for word in words:
        assert word in message, message


def survives(source: object) -> str:
    """A clip or a bad sample: nothing else comes of damage. Gives all that was said."""
    message = said = ""
    try:
        assert read_echo(source).frames.size
    except BadSample as error:
        message, said = str(error), "".join(traceback.format_exception(error))
    assert "\n" not in message
    return said


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("golden")
    files = {
        "dicom": write_dicom(folder / "native.dcm", GREY),
        "jpeg": write_dicom(folder / "jpeg.dcm", [jpeg(p) for p in RGB], "YBR_FULL_422", syntax=JPEG),
        "j2k": write_dicom(folder / "j2k.dcm", [jpeg_2000(p) for p in RGB], "YBR_RCT", syntax=JPEG_2000),
        "avi": folder / "clip.avi",
        "mp4": folder / "clip.mp4",
        "npz": folder / "arrays.npz",
    }
    files["avi"].write_bytes(write_video(RGB))
    files["mp4"].write_bytes(write_video(RGB, "libx264", "yuv420p", "mp4"))
    np.savez_compressed(files["npz"], frames=GREY, rate=25)
    return files


@pytest.mark.parametrize("kind", ["dicom", "jpeg", "j2k", "avi", "mp4", "npz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_truncated_files(kind: str, share: float, golden: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / golden[kind].name
    data = golden[kind].read_bytes()
    # An AVI has its index at the end: what is cut must be frames.
    file.write_bytes(data[: int(len(data) * share * (0.75 if kind == "avi" else 1))])
    refused(file, file.name)


@pytest.mark.parametrize("seed", range(30))
def test_damaged_bytes_give_a_clip_or_a_bad_sample(
    seed: int, golden: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(seed)
    for file in golden.values():
        data = bytearray(file.read_bytes())
        for place in rng.integers(0, min(len(data), 4000), 8):
            data[place] = rng.integers(256)
        said = survives(bytes(data)) + caplog.text
        assert "Doe" not in said
        assert "SECRET" not in said


def test_still_images_are_rejected() -> None:
    refused({"frames": GREY[:1], "rate": 25}, "a cine", "a still image")
    refused(write_video(RGB[:1]), "a cine", "a still image")
    refused(Echo(GREY[:1], 25.0), "a still image")


def test_a_still_in_dicom(tmp_path: Path) -> None:
    refused(write_dicom(tmp_path / "still.dcm", GREY[:1], shape=(1, 48, 64)), "still.dcm", "a cine", "a still image")

    def edit(file: object) -> None:
        del file.NumberOfFrames, file.FrameTime, file.FrameIncrementPointer

    refused(write_dicom(tmp_path / "still.dcm", GREY[:1], shape=(1, 48, 64), edit=edit), "a still image")


def _locked(file: object) -> None:
    from pydicom.dataset import Dataset

    del file.PixelData
    one = Dataset()
    one.EncryptedContent, one.EncryptedContentTransferSyntaxUID = b"\1\2\3\4", "1.2.840.10008.1.2.1"
    file.EncryptedAttributesSequence = [one]


def _set(**values: object) -> object:
    def edit(file: object) -> None:
        for name, value in values.items():
            if value is None:
                delattr(file, name)
            else:
                setattr(file, name, value)

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_locked, ["encrypted"]),
        (_set(PixelData=None), ["without pixels"]),
        (_set(Modality="CT"), ["ultrasound cine", "modality CT"]),
        (_set(Modality="XA"), ["modality XA"]),
        (_set(Modality=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), ["CT Image Storage"]),
        (_set(FrameTime=None), ["FrameTime", "none of them"]),
        (_set(FrameTime=0), ["none of them"]),
        (_set(FrameTime=0.5), ["a rate in", "2000"]),
        (_set(FrameTime=5000), ["a rate in", "0.2"]),
        (_set(FrameTimeVector=[0] + [0] * 11), ["rising times"]),
        (_set(NumberOfFrames=FRAMES + 1), ["damaged"]),
        (_set(NumberOfFrames=2**31 - 1), ["pixels in all frames"]),
        (_set(NumberOfFrames=-5), ["at least 2 frames"]),
        (_set(Rows=65535, Columns=65535), ["pixels a side"]),
        (_set(Rows=4), ["pixels a side"]),
        (_set(PhotometricInterpretation="CMYK"), ["pixels as one of", "CMYK"]),
        (_set(PixelRepresentation=1), ["unsigned"]),
        (_set(BitsStored=1, HighBit=0), ["8 to 16 bits"]),
        (_set(SequenceOfUltrasoundRegions=[region(0, 0, 30, 30, form=2)]), ["2D tissue region"]),
        (_set(SequenceOfUltrasoundRegions=[region(0, 0, 30, 30, form=3, kind=3)]), ["2D tissue region"]),
        (_set(PhotometricInterpretation="PALETTE COLOR"), ["damaged"]),
    ],
)
def test_dicom_that_is_no_echo_cine(edit: object, words: list[str], tmp_path: Path) -> None:
    refused(write_dicom(tmp_path / "edited.dcm", GREY, edit=edit), "edited.dcm", *words)


@pytest.mark.parametrize(
    "change",
    [
        {"Modality": "DOE^JOHN"},
        {"Modality": None, "SOPClassUID": "1.2.DOE^JOHN"},
        {"PhotometricInterpretation": "DOE^JOHN"},
    ],
)
def test_no_field_of_a_dicom_file_is_quoted(change: dict[str, object], tmp_path: Path) -> None:
    """Where a damaged length swallows the next element, any field may hold the patient's name."""
    with warnings.catch_warnings():  # pydicom finds these values odd, which they are
        warnings.simplefilter("ignore")
        path = write_dicom(tmp_path / "edited.dcm", GREY, edit=_set(**change))
    with pytest.raises(BadSample) as caught:
        read_echo(path)
    assert "DOE" not in "".join(traceback.format_exception(caught.value))


def test_a_side_file_that_is_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "rate.json").write_text('{"rate": 25}')
    np.save(tmp_path / "data" / "clip.npy", GREY)
    (tmp_path / "data" / "clip.json").symlink_to(tmp_path / "rate.json")
    refused(tmp_path / "data" / "clip.npy", "clip.json", "a link that leaves it")


def test_the_sop_class_identifies_ultrasound_without_modality(tmp_path: Path) -> None:
    assert len(read_echo(write_dicom(tmp_path / "a.dcm", GREY, edit=_set(Modality=None))).frames) == FRAMES


def test_a_flow_region_alone_is_a_fault(tmp_path: Path) -> None:
    edit = _set(SequenceOfUltrasoundRegions=[region(8, 8, 39, 39, kind=2)])
    echo = read_echo(write_dicom(tmp_path / "a.dcm", GREY, edit=edit))
    assert echo.frames.shape == (FRAMES, 32, 32)
    assert echo.faults == ("no tissue region: the colour flow region was taken",)


@pytest.mark.parametrize(("make", "syntax", "colour"), [(jpeg, JPEG, "YBR_FULL"), (jpeg_2000, JPEG_2000, "YBR_RCT")])
def test_frames_that_are_larger_than_stated(make: object, syntax: str, colour: str, tmp_path: Path) -> None:
    """Known from the code's own header, before it is decoded."""
    big = np.zeros((900, 1200, 3), np.uint8)
    codes = [make(picture) for picture in RGB[:-1]] + [make(big)]
    path = write_dicom(tmp_path / "bomb.dcm", codes, colour, syntax=syntax)
    refused(path, "frames of 64 x 48, as it states", "1200 x 900")


def test_run_length_frames_larger_than_stated_are_rejected(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "bomb.dcm", [b"\x81\x00" * 20_000] * FRAMES, syntax=RLE)
    refused(path, "frames of 3072 bytes", "40000 bytes")


def test_more_or_fewer_frames_than_stated(tmp_path: Path) -> None:
    codes = [jpeg(picture) for picture in RGB]
    for count in (FRAMES - 2, FRAMES + 2):
        path = write_dicom(tmp_path / "count.dcm", codes, "YBR_FULL", syntax=JPEG, shape=(count, 48, 64))
        refused(path, "count.dcm")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.102"])
def test_compressions_that_are_not_decoded_are_named(syntax: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", [b"\0\0"] * FRAMES, syntax=syntax)
    refused(path, "a compression that", "JPEG" if syntax[-3:] != "102" else "MPEG")


def test_a_deflated_file_is_not_inflated(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, syntax="1.2.840.10008.1.2.1.99")
    refused(path, "not deflated")


def test_no_patient_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit = _set(SequenceOfUltrasoundRegions=[region(0, 0, 639, 479)], CineRate=99)
    path = write_dicom(tmp_path / "a.dcm", GREY, edit=edit)
    assert b"SECRET" in path.read_bytes()
    echo = read_echo(path)
    assert len(echo.faults) == 2
    for text in (repr(echo), str(vars(echo)), caplog.text):
        assert "SECRET" not in text
        assert "Doe" not in text


def test_fields_about_the_patient_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pydicom

    read, seen = pydicom.dcmread, []

    def spy(*args: object, **kwargs: object) -> object:
        seen.append(read(*args, **kwargs))
        return seen[-1]

    path = write_dicom(tmp_path / "a.dcm", GREY)
    monkeypatch.setattr(pydicom, "dcmread", spy)
    assert read_echo(path).faults == ()
    assert not {"PatientName", "PatientID", "PatientComments"} & set(seen[0].dir())


def _wide(data: bytes, width: int) -> bytes:
    """An AVI whose stream header states another width."""
    place = data.index(b"strf") + 8 + 4
    return data[:place] + width.to_bytes(4, "little") + data[place + 4 :]


def test_video_with_oversized_frames_is_rejected() -> None:
    refused(_wide(write_video(RGB, "rawvideo", "bgr24"), 60_000), "pixels a side", "60000")


def test_a_frame_that_is_larger_than_its_video_is_not_decoded() -> None:
    """FFmpeg would ask for the memory when it opens the file."""
    import av

    stream, code = io.BytesIO(), jpeg(np.zeros((4097, 4097), np.uint8), subsampling=-1)
    with av.open(stream, "w", format="avi") as file:
        track = file.add_stream("mjpeg", rate=25)
        track.height, track.width, track.pix_fmt = 48, 64, "yuvj420p"
        track.codec_context.open()
        for place in range(3):
            packet = av.Packet(code)
            packet.stream, packet.pts, packet.dts, packet.time_base = track, place, place, Fraction(1, 25)
            file.mux(packet)
    refused(stream.getvalue(), "pixels a side", "0 x 0")


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_frames_that_a_video_lacks(lost: int) -> None:
    """The header's count is held against what comes out; a frame or two is a fault, more is a truncated file."""
    data = write_video(RGB, "rawvideo", "bgr24")
    place = data.index(b"strh") + 8 + 32  # dwLength of the stream
    assert int.from_bytes(data[place : place + 4], "little") == FRAMES
    data = data[:place] + (FRAMES + lost).to_bytes(4, "little") + data[place + 4 :]
    if lost > 2:
        refused(data, f"{FRAMES + lost} frames", f"a truncated file of {FRAMES}")
    else:
        assert str(FRAMES + lost) in read_echo(data).faults[0]


@pytest.mark.parametrize("text", [b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"])
def test_playlists_are_no_videos(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.avi").write_bytes(text)
    refused(tmp_path / "list.avi", "an echo cine", "got a text file")
    refused(b"RIFF\0\0\0\0AVI " + text)


def test_ffmpeg_gets_the_format_and_opens_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    seen, opened = {}, av.open

    def spy(*args: object, **kwargs: object) -> object:
        seen.update(kwargs)
        return opened(*args, **kwargs)

    data = write_video(RGB)
    monkeypatch.setattr(av, "open", spy)
    assert len(read_echo(data).frames) == FRAMES
    assert seen["format"] == "avi"
    with pytest.raises(PermissionError):
        seen["io_open"]("/etc/passwd", 1, {})


@pytest.mark.parametrize(
    "head", [b"#EXTM3U\n", b"ffconcat version 1.0", b"RIFF0000WAVE", b"<?xml <MPD", b"v=0\r\no=", b""]
)
def test_playlists_and_sounds_are_not_opened(head: bytes) -> None:
    assert container(head.ljust(200)) is None


def test_files_with_audio_alone_are_rejected(tmp_path: Path) -> None:
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as file:
        track = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        for packet in [*track.encode(frame), *track.encode()]:
            file.mux(packet)
    refused(stream.getvalue(), "a video", "without one")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"frames": GREY}, ["rate"]),
        ({"rate": 25}, ["no frames"]),
        ({"frames": GREY.astype(float), "rate": 25}, ["uint8", "float64"]),
        ({"frames": GREY[0], "rate": 25}, ["(48, 64)"]),
        ({"frames": RGB[..., :2], "rate": 25}, ["(12, 48, 64, 2)"]),
        ({"frames": GREY[:, :4], "rate": 25}, ["pixels a side"]),
        ({"frames": GREY, "rate": 0}, ["a rate in"]),
        ({"frames": GREY, "rate": 10**400}, ["a rate in", "inf"]),
        ({"frames": GREY, "rate": 2**70}, ["a rate in"]),
        ({"frames": GREY, "rate": np.array([None])}, ["a rate"]),
        ({"frames": GREY, "rate": float("nan")}, ["a rate in"]),
        ({"frames": GREY, "rate": True}, ["a rate"]),
        ({"frames": GREY, "rate": "25"}, ["a rate"]),
        ({"frames": GREY, "rate": np.array(["25"])}, ["a rate"]),
        ({"frames": GREY, "rate": [25, 30]}, ["a rate"]),
        ({"frames": np.broadcast_to(np.uint8(0), (2**20, 512, 512)), "rate": 25}, ["pixels in all frames"]),
        (Echo(GREY, 1e9), ["a rate in"]),
    ],
)
def test_arrays_that_are_no_clip(given: object, words: list[str]) -> None:
    refused(given, *words)


def test_npy_needs_a_stated_rate_and_no_pickle(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    refused(tmp_path / "a.npy", "a.json")
    (tmp_path / "a.json").write_text("[25]")
    refused(tmp_path / "a.npy", "a.json", "no JSON object")
    (tmp_path / "a.json").write_text(json.dumps({"rate": None}))
    refused(tmp_path / "a.npy", "no rate")
    (tmp_path / "a.json").write_text(json.dumps({"rate": 25}))
    np.save(tmp_path / "a.npy", np.array([object()]), allow_pickle=True)
    refused(tmp_path / "a.npy", "without pickle")


def test_inconsistent_archives_are_rejected(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**10, 2**10)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("frames.npy", head.getvalue() + b"\0" * 100)
    refused(tmp_path / "a.npz", "bytes of values, as its header states, got")


def test_missing_files(tmp_path: Path) -> None:
    refused(tmp_path / "no.avi", "no such file")
    refused(tmp_path, "a folder")
    (tmp_path / "empty.dcm").write_bytes(b"")
    refused(tmp_path / "empty.dcm", "an empty file")
