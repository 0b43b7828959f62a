"""One clip, written in every format by means that share no code with the readers."""

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

FRAMES, HEIGHT, WIDTH, RATE = 12, 48, 64, 25
WEIGHTS = np.array([0.299, 0.587, 0.114])
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.3.1"
NATIVE = "1.2.840.10008.1.2.1"
JPEG, JPEG_2000, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


def colours() -> np.ndarray:
    """Slow waves of red, green and blue that move, all of them within what YBR can hold: `(12, 48, 64, 3)` uint8."""
    time, y, x = np.meshgrid(np.arange(FRAMES), np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    red = 120 + 60 * np.sin(x / 11 + time / 3)
    green = 110 + 50 * np.cos(y / 9 - time / 4)
    blue = 100 + 40 * np.sin((x + y) / 13 + time / 5)
    return np.rint(np.stack([red, green, blue], -1)).astype(np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float64) @ WEIGHTS


def ybr(rgb: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 over the full range, as DICOM PS3.3 C.7.6.3.1.2 writes it."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    return np.rint(rgb.astype(np.float64) @ matrix.T + [0, 128, 128]).clip(0, 255).astype(np.uint8)


def jpeg(picture: np.ndarray, **options: object) -> bytes:
    """One frame; `plain` leaves out what says how its parts are to be read, `adobe` says it as Adobe does."""
    plain, adobe, mode = options.pop("plain", False), options.pop("adobe", None), options.pop("mode", None)
    stream = io.BytesIO()
    image = Image.fromarray(picture)
    if mode is not None:  # the numbers are kept, their meaning is changed
        image = Image.frombytes(mode, image.size, image.tobytes())
    image.save(stream, "JPEG", quality=98, **({"subsampling": 0} | options))
    data = stream.getvalue()
    if plain or adobe is not None:
        assert data[2:4] in (b"\xff\xe0", b"\xff\xee")
        data = data[:2] + data[4 + int.from_bytes(data[4:6]) :]  # without JFIF's or Adobe's
    if adobe is not None:
        data = data[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([adobe]) + data[2:]
    return data


def jpeg_2000(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG2000", irreversible=False, no_jp2=True, mct=1)
    return stream.getvalue()


def region(left: int, top: int, right: int, bottom: int, *, form: int = 1, kind: int = 1) -> object:
    """An ultrasound region; right and bottom are the last pixel inside."""
    from pydicom.dataset import Dataset

    one = Dataset()
    one.RegionSpatialFormat, one.RegionDataType, one.RegionFlags = form, kind, 2
    one.RegionLocationMinX0, one.RegionLocationMinY0 = left, top
    one.RegionLocationMaxX1, one.RegionLocationMaxY1 = right, bottom
    return one


def write_dicom(
    path: Path,
    pixels: np.ndarray | Sequence[bytes],
    colour: str = "MONOCHROME2",
    *,
    syntax: str = NATIVE,
    shape: tuple[int, int, int] = (FRAMES, HEIGHT, WIDTH),
    bits: int = 8,
    planar: int = 0,
    edit: Callable[[object], None] = lambda file: None,
) -> Path:
    """Pixels as they are to be stored, or one code a frame; 40 ms a frame."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = UID(syntax), ULTRASOUND
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.Modality = ULTRASOUND, "US"
    file.PatientName, file.PatientID, file.PatientComments = "Doe^Jane", "SECRET-77", "SECRET comment"
    file.NumberOfFrames, file.Rows, file.Columns = shape
    file.SamplesPerPixel = 1 if colour.startswith(("MONO", "PAL")) else 3
    file.PhotometricInterpretation = colour
    if file.SamplesPerPixel == 3:
        file.PlanarConfiguration = planar
    file.BitsAllocated, file.BitsStored, file.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    file.PixelRepresentation = 0
    file.FrameTime, file.FrameIncrementPointer = 1000 / RATE, 0x00181063
    if isinstance(pixels, np.ndarray):
        raw = pixels.astype("u1" if bits == 8 else "<u2").tobytes()
        file.PixelData = raw + b"\0" * (len(raw) % 2)
    else:
        file.PixelData = encapsulate([code + b"\0" * (len(code) % 2) for code in pixels])
    edit(file)
    file.save_as(path, enforce_file_format=True)
    return path


def write_video(
    frames: np.ndarray,
    codec: str = "mjpeg",
    pixels: str = "yuvj444p",
    form: str = "avi",
    times: Sequence[int] | None = None,
) -> bytes:
    """A film of 25 frames a second, `(time, height, width, 3)`; `times` in milliseconds where they are to be others."""
    import av

    stream = io.BytesIO()
    with av.open(stream, "w", format=form, options={"fflags": "bitexact"}) as file:
        track = file.add_stream(codec, rate=RATE if times is None else 1000)
        track.height, track.width, track.pix_fmt = *frames.shape[1:3], pixels
        if codec in ("mjpeg", "mpeg4"):  # as good as they can
            track.codec_context.flags |= av.codec.context.Flags.qscale
            track.codec_context.global_quality = 118
        for place, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[place], Fraction(1, 1000)
            for packet in track.encode(frame):
                file.mux(packet)
        for packet in track.encode():
            file.mux(packet)
    return stream.getvalue()
