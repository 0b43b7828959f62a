"""Echocardiograms: DICOM with each way to store pixels, videos, arrays."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from modalities.echo.sample import MIN_FRAMES, MIN_SIDE, RATES, Echo
from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand, demand_array, single


def seeds(folder: Path) -> dict[str, Case]:
    """Twelve small frames in each format."""
    import echo_files as files

    rgb = files.colours()[:4, :24, :32]
    grey = np.rint(files.luma(rgb)).astype(np.uint8)
    shape = (4, 24, 32)
    dicom = {
        "grey": (grey, "MONOCHROME2", {}),
        "deep": (grey.astype(np.uint16) * 16, "MONOCHROME2", {"bits": 12}),
        "rgb": (rgb, "RGB", {}),
        "planar": (rgb.transpose(0, 3, 1, 2), "RGB", {"planar": 1}),
        "jpeg": ([files.jpeg(frame) for frame in rgb], "YBR_FULL_422", {"syntax": files.JPEG}),
        "jpeg2000": ([files.jpeg_2000(frame) for frame in rgb], "YBR_RCT", {"syntax": files.JPEG_2000}),
    }
    cases = {}
    for name, (pixels, colour, options) in dicom.items():

        def edit(file: Any) -> None:
            from pydicom.sequence import Sequence

            file.SequenceOfUltrasoundRegions = Sequence([files.region(2, 2, 29, 21)])

        path = files.write_dicom(folder / "c.dcm", pixels, colour, shape=shape, edit=edit, **options)
        cases[f"dicom-{name}"] = single("c.dcm", path.read_bytes())
    for codec, form, pixels in (
        ("mjpeg", "avi", "yuvj444p"),
        ("mpeg4", "mp4", "yuv420p"),
        ("ffv1", "matroska", "gray"),
    ):
        suffix = {"matroska": "mkv"}.get(form, form)
        cases[suffix] = single(f"c.{suffix}", files.write_video(rgb, codec, pixels, form))
    stream = io.BytesIO()
    np.savez(stream, frames=grey, rate=50)
    cases["npz"] = single("c.npz", stream.getvalue())
    np.save(folder / "c.npy", grey)
    cases["npy"] = single("c.npy", (folder / "c.npy").read_bytes(), c__json=json.dumps({"rate": 50}).encode())
    cases["mapping"] = Case(value={"frames": grey, "rate": 50})
    return cases


def check(sample: Any) -> None:
    """An `Echo` as its class describes it."""
    demand(isinstance(sample, Echo), f"a {type(sample).__name__}")
    demand_array(sample.frames, np.uint8, 3, "frames")
    demand(len(sample.frames) >= MIN_FRAMES and min(sample.frames.shape[1:]) >= MIN_SIDE, f"{sample.frames.shape}")
    demand(isinstance(sample.rate, float) and RATES[0] <= sample.rate <= RATES[1], f"rate {sample.rate}")
