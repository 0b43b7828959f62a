"""Clips: containers and codecs, animations, folders of pictures, arrays, and masks beside a clip."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modalities.video.sample import LONG_SIDE, MAX_FRAMES, MAX_TRACKS, MIN_SIDE, RATES, Clip
from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand, demand_array, single

ENCODER = "vit3d"
COUNT, HEIGHT, WIDTH = 8, 32, 56


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def seeds(folder: Path) -> dict[str, Case]:
    """Eight small frames in each format."""
    from tests.modalities.video.video_files import numbered, write_video

    film = [numbered(index, HEIGHT, WIDTH) for index in range(COUNT)]
    kinds = {
        "mp4": ("mp4", "libx264"), "mkv": ("matroska", "libx264"), "avi": ("avi", "mpeg4"), "webm": ("webm", "libvpx"),
        "mpg": ("mpeg", "mpeg1video"), "ts": ("mpegts", "libx264"), "flv": ("flv", "flv1"),
    }  # fmt: skip
    rates = {"mpg": 25}
    cases = {}
    for suffix, (form, codec) in kinds.items():
        try:
            data = write_video(film, form, codec, rate=rates.get(suffix, 10))
        except (ValueError, OSError):  # this build of FFmpeg has no such encoder
            continue
        cases[suffix] = single(f"c.{suffix}", data)
    mp4 = cases["mp4"].files["c.mp4"]
    cases["part"] = Case({"c.mp4": mp4}, "c.mp4#t=0.1,0.6")
    cases["rotated"] = single("c.mp4", write_video(film, rotation=90))
    pictures = [Image.fromarray(frame) for frame in film]
    for kind in ("gif", "webp"):
        stream = io.BytesIO()
        pictures[0].save(stream, kind.upper(), save_all=True, append_images=pictures[1:], duration=100)
        cases[kind] = single(f"c.{kind}", stream.getvalue())
    streams = [io.BytesIO() for _ in pictures]
    for picture, stream in zip(pictures, streams, strict=True):
        picture.save(stream, "PNG")
    cases["folder"] = Case({f"d/{index}.png": stream.getvalue() for index, stream in enumerate(streams)}, "d")
    labels = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    labels[:, :8, :8], labels[:, 20:, 20:] = 1, 9
    table = np.array([[1] * COUNT, [9] * COUNT])
    frames = np.stack(film)
    cases["npz"] = single("c.npz", npz(frames=frames, rate=10, labels=labels, table=table))
    cases["masks"] = Case({"c.mp4": mp4, "c_mask.npz": npz(labels=labels)}, "c.mp4")
    released = {"c_mask.npz": npz(arr_0=labels[:4, :, :HEIGHT]), "c_graph.npz": npz(tensor=table[:, :4])}
    cases["masks-released"] = Case({"c.mp4": mp4, **released}, "c.mp4")
    film_of_labels = write_video(labels, "matroska", "ffv1", "gray", layout="gray")
    cases["masks-video"] = Case({"c.mp4": mp4, "c_mask.mkv": film_of_labels}, "c.mp4")
    palettes = {}
    for index, frame in enumerate(labels):
        stream = io.BytesIO()
        Image.fromarray(frame, "L").convert("P").save(stream, "PNG")
        palettes[f"c_masks/{index}.png"] = stream.getvalue()
    cases["masks-pictures"] = Case({"c.mp4": mp4, **palettes}, "c.mp4")
    cases["mapping"] = Case(value={"frames": frames, "rate": 10, "labels": labels, "table": table})
    return cases


def check(sample: Any) -> None:
    """A `Clip` as its class describes it, and trajectories of its size."""
    demand(isinstance(sample, Clip), f"a {type(sample).__name__}")
    demand_array(sample.frames, np.uint8, 4, "frames")
    shape = sample.frames.shape
    demand(shape[3] == 3 and shape[0] <= MAX_FRAMES and min(shape[1:3]) >= MIN_SIDE, f"frames {shape}")
    demand(max(shape[1:3]) <= LONG_SIDE and RATES[0] <= sample.rate <= RATES[1], f"frames {shape} at {sample.rate}")
    if sample.tracks is not None:
        tracks = sample.tracks
        demand(tracks.labels.dtype == tracks.table.dtype == np.int32, f"{tracks.labels.dtype} {tracks.table.dtype}")
        demand(tracks.labels.shape == shape[:3], f"labels {tracks.labels.shape} of frames {shape}")
        demand(tracks.table.ndim == 2 and tracks.table.shape[1] == shape[0], f"table {tracks.table.shape}")
        demand(len(tracks) <= MAX_TRACKS and int(tracks.labels.min()) >= 0, f"{len(tracks)} tracks")
