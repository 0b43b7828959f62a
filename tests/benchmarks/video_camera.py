"""Trajectories of a still scene under a moving camera, beside those under a still camera.

    python tests/benchmarks/video_camera.py
    python tests/benchmarks/video_camera.py --methods supervoxels --size 64 --seeds 100 --clips    # no files

Scenes: simulated ones (noise of three scales; rectangles of texture on texture), and the middle frame of clips below
`MMALIGN_DATA` (default `../shared/data`). The camera shifts by a quarter, half and all of a view, zooms by 1.4, or
turns by 20 degrees, in 16 frames with noise of a standard deviation of 2 of 255. `count`: trajectories, relative to the
mean of cameras that stand still at the first, middle and last view. `follow`: fraction of the visible points of the
middle frame, over all frames, whose trajectory is the one of the middle frame; 1 = trajectories move with the scene.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from figures import table
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from modalities.video import MODALITY
from modalities.video.trajectories import flow_linked, supervoxels

MAKERS: dict[str, Callable[..., NDArray[np.int32]]] = {
    "supervoxels": supervoxels,
    "supervoxels, not aligned": partial(supervoxels, align=False),
    "flow": flow_linked,
}
FRAMES = 16
NOISE = 2.0
CLIPS = (
    *(f"hmdb51_sample/{name}.avi" for name in ("punch", "swing_baseball")),
    *(f"intel_videos/asl_gestures/{name}.mkv" for name in ("help", "learn", "milk")),
    *(
        f"intel_videos/scenes/{name}.gif"
        for name in ("bolt-multi-size-detection", "classroom", "face-demographics-walking-and-pause")
    ),
    "nasa_video/nasa_13013.mp4",
)

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Motion:
    """What the camera does in a clip: shift to the right in views, factor of zoom, turn in radians."""

    shift: float = 0.0
    zoom: float = 1.0
    turn: float = 0.0

    def matrix(self, when: float) -> Floats:
        """From a view (rows, columns; -1..1) to the scene in half views, `(2, 3)`; when in -0.5..0.5."""
        scale, angle = self.zoom**-when, self.turn * when
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        return np.array([[cos, sin, 0.0], [-sin, cos, 2 * self.shift * when]])


MOTIONS = {
    "shift 1/4": Motion(0.25), "shift 1/2": Motion(0.5), "shift 1": Motion(1.0), "zoom 1.4": Motion(zoom=1.4),
    "turn 20": Motion(turn=np.pi / 9),
}  # fmt: skip


def noise_scene(seed: int, side: int = 320) -> Bytes:
    rng = np.random.default_rng((seed, 0))
    scene = np.tile(rng.uniform(60, 180, 3), (side, side, 1))
    for sigma, amplitude in ((2, 12), (6, 20), (16, 40)):
        noise = gaussian_filter(rng.normal(size=(side, side, 3)), (sigma, sigma, 0), mode="wrap")
        scene += amplitude * noise / noise.std()
    return np.clip(scene, 0, 255).astype(np.uint8)


def object_scene(seed: int, side: int = 320, objects: int = 40) -> Bytes:
    rng = np.random.default_rng((seed, 1))
    noise = gaussian_filter(rng.normal(size=(side, side)), 3, mode="wrap")
    scene = np.array([90, 110, 90]) + 12 * (noise / noise.std())[..., None]
    for _ in range(objects):
        (y, x), (height, width) = rng.integers(0, side, 2), rng.integers(12, 50, 2)
        part = scene[y : y + height, x : x + width]
        part[:] = rng.uniform(30, 230, 3) + 10 * rng.normal(size=(*part.shape[:2], 1))
    return np.clip(scene, 0, 255).astype(np.uint8)


def scenes(seeds: Sequence[int], clips: Sequence[str]) -> Iterator[tuple[str, Bytes]]:
    for seed in seeds:
        yield "simulated", noise_scene(seed)
        yield "simulated", object_scene(seed)
    data = Path(os.environ.get("MMALIGN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    for name in clips:
        clip = MODALITY.read(data / name)
        yield "photographs", clip.frames[len(clip) // 2]


def grid(size: int) -> Floats:
    """View coordinates of all pixels, `(2, size * size)`."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    return np.stack(np.meshgrid(line, line, indexing="ij")).reshape(2, -1)


def film(scene: Bytes, motion: Motion, whens: Sequence[float], size: int) -> Bytes:
    """Views of the scene at these times, with noise of the camera."""
    rng, half = np.random.default_rng(0), 0.22 * min(scene.shape[:2])
    centre = (np.array(scene.shape[:2]) - 1)[:, None] / 2
    blur = max(half * 2 / size - 1, 0) / 2  # no aliasing where a pixel of the view is wider than one of the scene
    smooth = gaussian_filter(scene.astype(np.float64), (blur, blur, 0))
    frames = []
    for when in whens:
        matrix = motion.matrix(when)
        at = centre + half * (matrix[:, :2] @ grid(size) + matrix[:, 2:])
        view = np.stack([map_coordinates(smooth[..., c], at, order=1, mode="reflect") for c in range(3)], axis=-1)
        frames.append(np.rint(view + NOISE * rng.normal(size=view.shape)).clip(0, 255).reshape(size, size, 3))
    return np.stack(frames).astype(np.uint8)


def follow(labels: NDArray[np.int32], motion: Motion, whens: Floats) -> float:
    """Fraction of the visible points of the middle frame that have its trajectory, over all frames."""
    size, middle = labels.shape[1], len(whens) // 2
    start = motion.matrix(float(whens[middle]))
    points = start[:, :2] @ grid(size) + start[:, 2:]
    reference = labels[middle].ravel()
    same, total = 0, 0
    for when, own in zip(whens, labels, strict=True):
        matrix = motion.matrix(float(when))
        at = np.linalg.solve(matrix[:, :2], points - matrix[:, 2:])
        row, column = np.rint((at + 1) / 2 * size - 0.5).astype(int)
        inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        same += int((own[row[inside], column[inside]] == reference[inside]).sum())
        total += int(inside.sum())
    return same / total


def measure(name: str, kind: str, scene: Bytes, size: int, segments: int) -> list[dict[str, Any]]:
    """A row for each motion."""
    whens = np.linspace(-0.5, 0.5, FRAMES)
    rows = []
    for motion_name, motion in MOTIONS.items():
        stills = [film(scene, motion, [when] * FRAMES, size) for when in (-0.5, 0.0, 0.5)]
        still = float(np.mean([MAKERS[name](frames, segments=segments).max() for frames in stills]))
        frames = film(scene, motion, whens.tolist(), size)
        start = time.process_time()
        labels = MAKERS[name](frames, segments=segments)
        seconds = time.process_time() - start
        row = {
            "method": name,
            "scenes": kind,
            "motion": motion_name,
            "still": still,
            "count": int(labels.max()) / still,
        }
        rows.append(row | {"follow": follow(labels, motion, whens), "seconds": seconds})
    return rows


def shown(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each method, kind of scene and motion, and one for each method over all of them."""
    cells: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["method"], row["scenes"], row["motion"]), []).append(row)
    for row in rows:
        cells.setdefault((row["method"], "all", "all"), []).append(row)
    lines = []
    for (name, kind, motion), own in cells.items():
        counts, follows = [row["count"] for row in own], [row["follow"] for row in own]
        lines.append(
            {
                "trajectories": name,
                "scenes": f"{len({row['index'] for row in own})} {kind}",
                "camera": motion,
                "still camera": f"{np.mean([row['still'] for row in own]):.0f}",
                "count: median": f"{np.median(counts):.2f}",
                "count: largest": f"{max(counts):.2f}",
                "follow: mean": f"{np.mean(follows):.2f}",
                "follow: smallest": f"{min(follows):.2f}",
                "ms": f"{1000 * np.median([row['seconds'] for row in own]):.0f}",
            }
        )
    return table(lines)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table and, where asked, write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[100, 101, 102], help="of simulated scenes")
    parser.add_argument("--clips", nargs="*", default=list(CLIPS), help="files below MMALIGN_DATA")
    parser.add_argument("--size", type=int, default=96, help="side of the frames in pixels")
    parser.add_argument("--segments", type=int, default=64, help="requested number of segments")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    named = list(scenes(asked.seeds, asked.clips))
    rows = [
        {"index": index, **row}
        for name in asked.methods
        for index, scene in enumerate(named)
        for row in measure(name, *scene, asked.size, asked.segments)
    ]
    print(shown(rows))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main()
