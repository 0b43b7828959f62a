"""DICOM clips -> `Echo`. Only the tags below are parsed: fields about the patient are skipped."""

import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from mmalign.registry import missing_extra
from modalities.common.reading.dicom_log import quiet_dicom
from modalities.common.reading.dicom_words import MODALITIES, known_word, uid_name
from modalities.echo.formats.dicom_pixels import grey_frames
from modalities.echo.formats.resampling import even
from modalities.echo.sample import MIN_SIDE, Echo, check_rate, check_size

TAGS = [
    "SOPClassUID", "Modality", "EncryptedAttributesSequence", "SequenceOfUltrasoundRegions", "FrameIncrementPointer",
    "FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate",
    "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
]  # fmt: skip
"""The only tags read from the file."""

KINDS = ("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.3")
"""SOP classes of ultrasound multi-frame images, the current and the retired one."""

DEFLATED = b"1.2.840.10008.1.2.1.99"
FLAT, TISSUE, FLOW = 1, 1, 2  # region spatial format 2D; region data types (DICOM PS3.3, C.8.5.5.1)
DISAGREE = 0.2
"""Relative difference of two stated frame rates above which it is a fault."""


class Box(NamedTuple):
    """A rectangle of pixels; right and bottom are one past the last."""

    left: int
    top: int
    right: int
    bottom: int


def parse(data: bytes, source: str) -> Echo:
    """The clip of a DICOM file: its 2D tissue region, in grey, at regular times.

    Raises:
        BadSample: it is damaged, encrypted, not ultrasound, a still, or states no frame rate.
        UserError: pydicom is not installed.
    """
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise missing_extra("pydicom", "echo") from error
    if DEFLATED in data[:2048]:  # it could inflate to any size, and is rarely used for images
        raise BadSample(source, "a DICOM cine that is not deflated", "the transfer syntax Deflated Explicit VR")
    try:
        with quiet_dicom:
            file = pydicom.dcmread(io.BytesIO(data), specific_tags=TAGS)
            return _cine(file, source)
    except BadSample:
        raise
    except Exception as error:  # the message may quote the file's fields: only its type is reported, in a traceback too
        raise BadSample(source, "a DICOM cine", f"a damaged one ({type(error).__name__})") from None


def _cine(file: Any, source: str) -> Echo:
    modality, kind = file.get("Modality"), file.get("SOPClassUID", "")
    if modality != "US" and not (not modality and kind in KINDS):
        came = f"modality {known_word(modality, MODALITIES)}" if modality else uid_name(kind)
        raise BadSample(source, "a DICOM ultrasound cine", came)
    if "PixelData" not in file:
        locked = "EncryptedAttributesSequence" in file
        raise BadSample(
            source, "a DICOM cine", "one whose attributes are encrypted" if locked else "a file without pixels"
        )
    frames, height, width = int(file.get("NumberOfFrames") or 1), int(file.Rows), int(file.Columns)
    check_size(source, frames, height, width)
    indices, rate, faults = _clock(file, frames, source)
    box, more = _region(file, height, width, source)
    grey = np.empty((frames, box.bottom - box.top, box.right - box.left), np.uint8)
    count = 0
    for count, frame in enumerate(grey_frames(file, source), start=1):
        if count > frames:
            break
        grey[count - 1] = frame[box.top : box.bottom, box.left : box.right]
    if count != frames:
        raise BadSample(source, f"{frames} frames, as it states", "fewer" if count < frames else "more")
    if not np.array_equal(indices, np.arange(frames)):
        check_size(source, len(indices), *grey.shape[1:])
        grey = grey[indices]
    return Echo(grey, check_rate(source, rate), faults + more)


def _clock(file: Any, frames: int, source: str) -> tuple[NDArray[np.int64], float, tuple[str, ...]]:
    """Frame times by their vector, else the rate by `FrameTime`, `CineRate` or `RecommendedDisplayFrameRate`."""
    vector = file.get("FrameTimeVector")
    if vector is not None and np.size(vector) == frames:
        steps = np.asarray(vector, dtype=np.float64) / 1000  # milliseconds since the frame before; the first is 0
        indices, rate = even(np.cumsum(np.r_[0.0, steps[1:]]).tolist(), source)
        return indices, rate, ()
    stated = {
        name: 1000 / value if name == "FrameTime" else value
        for name in ("FrameTime", "CineRate", "RecommendedDisplayFrameRate")
        if (value := float(file.get(name) or 0)) > 0
    }
    if not stated:
        raise BadSample(source, "a DICOM cine that states FrameTime, FrameTimeVector or CineRate", "none of them")
    name, rate = next(iter(stated.items()))
    faults = tuple(
        f"{name} says {rate:.4g} frames a second, {other} {value:.4g}"
        for other, value in stated.items()
        if abs(value - rate) > DISAGREE * rate and other != "RecommendedDisplayFrameRate"  # slow motion is legitimate
    )
    return np.arange(frames), rate, faults


def _region(file: Any, height: int, width: int, source: str) -> tuple[Box, tuple[str, ...]]:
    """The largest 2D tissue region; the whole frame if none is stated or none is inside the frame."""
    whole = Box(0, 0, width, height)
    regions = list(file.get("SequenceOfUltrasoundRegions") or [])
    if not regions:
        return whole, ()
    kinds = [(int(region.RegionSpatialFormat), int(region.RegionDataType)) for region in regions]
    wanted = next((kind for kind in ((FLAT, TISSUE), (FLAT, FLOW)) if kind in kinds), None)
    if wanted is None:
        raise BadSample(source, "a 2D tissue region", "M-mode, Doppler or graphics only, by its ultrasound regions")
    boxes = [_box(region) for region, kind in zip(regions, kinds, strict=True) if kind == wanted]
    faults = [] if wanted[1] == TISSUE else ["no tissue region: the colour flow region was taken"]
    inside = [box for box in boxes if _is_inside(box, height, width)]
    if not inside:  # frames were downscaled without updating the tags
        return whole, (*faults, f"the ultrasound region lies outside of the frame of {width} x {height}: not cropped")
    if len(inside) > 1:
        faults.append(f"{len(inside)} regions of one kind: the largest was taken")
    best = max(inside, key=lambda box: (box.right - box.left) * (box.bottom - box.top))
    return Box(best.left, best.top, min(best.right, width), min(best.bottom, height)), tuple(faults)


def _box(region: Any) -> Box:
    return Box(
        int(region.RegionLocationMinX0), int(region.RegionLocationMinY0),
        int(region.RegionLocationMaxX1) + 1, int(region.RegionLocationMaxY1) + 1,
    )  # fmt: skip


def _is_inside(box: Box, height: int, width: int) -> bool:
    # Some vendors state the first pixel outside: one pixel beyond the frame is tolerated.
    return (
        0 <= box.left <= box.right - MIN_SIDE
        and 0 <= box.top <= box.bottom - MIN_SIDE
        and box.right <= width + 1
        and box.bottom <= height + 1
    )
