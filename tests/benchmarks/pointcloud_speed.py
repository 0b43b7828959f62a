"""Geometry beside fpsample and SciPy, and reading meshes: milliseconds of processor time on one thread.

python tests/benchmarks/pointcloud_speed.py                    # geometry, and the meshes below MMALIGN_DATA
python tests/benchmarks/pointcloud_speed.py --repeats 1 --clouds 2 --meshes 10    # does it run at all

The sides take turns in one process, so that what else the machine does meets all of them; each figure is the median of
the repeats. `extra` is the most memory that NumPy held at once beside the inputs.
"""

import argparse
import os
import statistics
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import fpsample
import numpy as np
import torch
from scipy.spatial import cKDTree

from mmalign import DataConfig, Dataset
from modalities.pointcloud import MODALITY
from modalities.pointcloud.geometry import farthest_point_sampling, nearest_neighbours

ARCHIVES = {"kaykit_3d/kaykit_obj.zip": ".obj", "kenney_3d/kenney_glb.zip": ".glb"}


def in_turns(name: str, works: dict[str, Callable[[], object]], repeats: int) -> None:
    times: dict[str, list[float]] = {side: [] for side in works}
    for _ in range(repeats):
        for side, work in works.items():
            start = time.thread_time()
            work()
            times[side].append(time.thread_time() - start)
    print(f"{name:40}", "  ".join(f"{side} {1000 * statistics.median(each):8.1f} ms" for side, each in times.items()))


def geometry(clouds: int, repeats: int) -> None:
    for size, count in ((1024, 64), (8192, 512)):
        points = torch.randn(clouds, size, 3, generator=torch.Generator().manual_seed(0))

        def peer(points: torch.Tensor = points, count: int = count) -> np.ndarray:
            return np.stack([fpsample.fps_sampling(cloud.numpy(), count, start_idx=0) for cloud in points])

        def ours(points: torch.Tensor = points, count: int = count) -> torch.Tensor:
            return farthest_point_sampling(points, count, start=0).indices

        assert (peer() == ours().numpy()).all()
        in_turns(f"FPS {clouds} x {size} -> {count}", {"fpsample": peer, "mmalign": ours}, repeats)
    queries = points[:, :512].contiguous()
    works = {
        "cKDTree": lambda: [cKDTree(a.numpy()).query(b.numpy(), k=32) for a, b in zip(points, queries, strict=True)],
        "mmalign": lambda: nearest_neighbours(points, queries, 32),
        "in blocks": lambda: nearest_neighbours(points, queries, 32, tree=False),
    }
    in_turns(f"32 nearest, {clouds} x 512 of 8192", works, repeats)
    tracemalloc.start()
    nearest_neighbours(points, queries, 32)
    print(f"{'':40} extra {tracemalloc.get_traced_memory()[1] / 1e6:.0f} MB")
    tracemalloc.stop()


def meshes(folder: Path, most: int) -> None:
    files: list[bytes] = []
    for name, suffix in ARCHIVES.items():
        with zipfile.ZipFile(folder / name) as archive:
            files += [archive.read(member) for member in archive.namelist() if member.endswith(suffix)]
    files, transform = files[:most], MODALITY.transform("", {})
    start = time.process_time()
    features = [transform.featurise(MODALITY.read(data)) for data in files]
    read = time.process_time()
    transform.collate([transform(one, np.random.default_rng(0)) for one in features])
    first, again = read - start, time.process_time() - read
    print(f"{len(files)} meshes: read and sampled {first:.1f} s, again from memory {again:.2f} s")
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "meshes.zip"
        with zipfile.ZipFile(archive, "w") as out:
            for index, data in enumerate(files):
                out.writestr(f"{index}{suffix_of(data)}", data)
        rows = "\n".join(f"{index}{suffix_of(data)}" for index, data in enumerate(files))
        (Path(name) / "meshes.csv").write_text(f"mesh\n{rows}\n", encoding="utf-8")
        print(f"with --data.cache: {opened(Path(name)):.1f} s, and from the cache {opened(Path(name)):.2f} s")


def suffix_of(data: bytes) -> str:
    return ".glb" if data.startswith(b"glTF") else ".obj"


def opened(folder: Path) -> float:
    """Processor time to open the table and to compute the features of every row."""
    start = time.process_time()
    config = DataConfig(
        "manifest",
        str(folder / "meshes.csv"),
        str(folder / "meshes.zip"),
        columns={"pointcloud": "mesh"},
        validation=0.0,
        cache=str(folder),
    )
    split = Dataset.open(config, {"pointcloud": MODALITY}).split("train")
    for _ in split.features("pointcloud", MODALITY.transform("", {})):
        pass
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MMALIGN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    parser.add_argument("folder", type=Path, nargs="?", default=data)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clouds", type=int, default=32)
    parser.add_argument("--meshes", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    geometry(given.clouds, given.repeats)
    if all((given.folder / name).is_file() for name in ARCHIVES):
        meshes(given.folder, given.meshes)


if __name__ == "__main__":
    main()
