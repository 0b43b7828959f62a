"""Masks beside a clip -> its trajectories.

- `NAME_mask.npz` and `NAME_graph.npz` beside `NAME.mp4`, as TrajViT releases them: `arr_0`, segment ids of each frame
  `(time, height, width)`, and `tensor`, the segment of each trajectory in each frame `(trajectories, time)`. The clip
  has the frames of the masks.
- `NAME_mask.npz` alone: `labels`, ids that are the same in all frames, with an optional `table`; or `masks`, one volume
  for each object `(objects, time, height, width)`, as SAM 2 gives them; they may overlap.
- `NAME_mask.mkv` (MOV, MP4, AVI): a lossless video, such as FFV1, whose grey levels are ids that are the same in all
  frames, with the time stamps of the clip.
- The folder `NAME_masks`: a PNG for each frame, whose palette indices are ids, as in DAVIS.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.local_file import demand_file, is_file
from modalities.common.reading.npy import archive_arrays
from modalities.common.reading.picture_log import quiet_pictures
from modalities.common.reading.png import check_png
from modalities.video.bounds import bounded, sampled
from modalities.video.formats import label_video
from modalities.video.formats.arrays import MAX_BYTES, make_tracks
from modalities.video.formats.pictures import pictures_in
from modalities.video.sample import MAX_FRAMES, Clip, Tracks
from modalities.video.trajectories import from_masks

MAX_OBJECTS = 4096
ASPECT = 0.05
"""Largest relative difference of the aspect ratios of masks and frames; TrajViT's masks are square for any clip."""


def mask_files(path: Path) -> list[Path]:
    """The files beside a clip that hold its masks, as far as there are any.

    Args:
        path: The clip's own path.
    """
    folder = path.with_name(f"{path.stem}_masks")
    beside = [path.with_name(f"{path.stem}_{kind}.npz") for kind in ("mask", "graph")]
    files = [file for file in beside if is_file(file)]
    films = [path.with_name(f"{path.stem}_mask{suffix}") for suffix in label_video.SUFFIXES]
    files = files or [film for film in films if is_file(film)][:1]
    return files or (pictures_in(folder) if folder.is_dir() else [])


def with_masks(clip: Clip, files: list[Path], window: tuple[float, float] = (0.0, 1.0)) -> Clip:
    """A clip with the trajectories of its masks; both are sampled at the times of the one with fewer frames.

    Args:
        clip: Without trajectories.
        files: From `mask_files`.
        window: The part of the whole clip that it is, as fractions of the duration.

    Raises:
        BadSample: the masks are damaged, or do not fit the clip.
    """
    name = str(files[0])
    tracks, released = _read(files, name)
    height, width = tracks.labels.shape[1:]
    shape = clip.frames.shape[1] / clip.frames.shape[2]
    if not released and abs(height / width / shape - 1) > ASPECT:
        raise BadSample(name, f"masks of the shape of frames of {clip.frames.shape[2]} x {clip.frames.shape[1]}",
                        f"masks of {width} x {height}")  # fmt: skip
    count = len(tracks.labels)
    if window != (0.0, 1.0):
        middles = (np.arange(count) + 0.5) / count
        inside = np.flatnonzero((window[0] <= middles) & (middles < window[1]))
        if not len(inside):
            raise BadSample(name, "masks in this part of the clip", "none")
        tracks = tracks.at(inside)
    elif not released and min(count, MAX_FRAMES) != len(clip):
        raise BadSample(name, f"masks of {len(clip)} frames", f"masks of {count}")
    common = min(len(tracks.labels), len(clip))
    frames = clip.frames[sampled(len(clip), common)]
    tracks = tracks.at(sampled(len(tracks.labels), common))
    return bounded(frames, clip.rate * common / len(clip), tracks, clip.faults)


def _read(files: list[Path], name: str) -> tuple[Tracks, bool]:
    """The trajectories, and whether the files are of TrajViT's form."""
    if files[0].suffix == ".png":
        return make_tracks(np.stack(_palettes(files)), None, name), False
    if files[0].suffix in label_video.SUFFIXES:
        return make_tracks(label_video.read_labels(files[0]), None, name), False
    arrays: dict[str, NDArray[Any]] = {}
    for file in files:
        demand_file(file, "an NPZ of masks", most=MAX_BYTES)
        names = ("arr_0", "tensor", "labels", "table", "masks")
        arrays |= archive_arrays(file.read_bytes(), names, file, most=MAX_BYTES)
    if "arr_0" in arrays:
        if "tensor" not in arrays:
            raise BadSample(name, "the array tensor in the file that ends in _graph.npz", "none")
        return make_tracks(arrays["arr_0"], arrays["tensor"], name), True
    if "labels" in arrays:
        return make_tracks(arrays["labels"], arrays.get("table"), name), False
    if "masks" in arrays:
        masks = arrays["masks"]
        if masks.ndim != 4 or not 1 <= len(masks) <= MAX_OBJECTS or masks.dtype.kind not in "bui" or not masks.size:
            raise BadSample(name, "masks of shape (objects, time, height, width)", f"{masks.dtype} {masks.shape}")
        return from_masks(list(masks)), False
    raise BadSample(name, "an array arr_0, labels or masks", "none of them")


def _palettes(files: list[Path]) -> list[NDArray[np.uint8]]:
    from PIL import Image

    sampled_files = [files[index] for index in sampled(len(files)).tolist()]
    labels: list[NDArray[np.uint8]] = []
    for file in sampled_files:
        demand_file(file, "a PNG with a palette", most=1 << 26)
        try:
            with file.open("rb") as stream, quiet_pictures:
                check_png(stream, file)
                image = Image.open(stream, formats=("PNG",))
                if image.mode not in ("P", "L", "1") or image.width * image.height > 1 << 25:
                    raise BadSample(file, "ids as palette indices or grey levels", f"colours ({image.mode})")
                labels.append(np.asarray(image, dtype=np.uint8))
        except BadSample:
            raise
        except Exception as error:  # decoders of damaged bytes raise anything
            raise BadSample(file, "a PNG with a palette", f"a damaged one ({type(error).__name__})") from error
        if labels[-1].shape != labels[0].shape:
            raise BadSample(file, "masks of one size", f"{labels[0].shape} and {labels[-1].shape}")
    return labels
