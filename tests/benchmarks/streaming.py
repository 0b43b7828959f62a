"""Streamed shards: cost until the first batch, and loader throughput beside open_clip's webdataset pipeline.

    python tests/benchmarks/streaming.py
    python tests/benchmarks/streaming.py --shards 20 2000 --rows 50 --side 256 --size 224 --batches 20 --rounds 3

Shards hold random JPEG pictures (of 32 pixels in the first table, of `--side` in the second) and sentences. Until the
first batch: processor time and growth of the resident set of a process of its own, after all imports: opening, 1,000
first records decoded, transforms fitted, first batch. Throughput: both loaders decode, resize to `--size` pixels and
tokenise the same shards, in turn, each with its own transforms; rows per second of wall time, median of `--rounds`.
open_clip's function that groups the members of a tar does not run with webdataset 1.0; webdataset's own replaces it.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from figures import table
from PIL import Image


def write(folder: Path, shards: int, rows: int, side: int) -> str:
    """Shards of `rows` pictures and sentences each; the pattern of their names."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (rows, side // 16, side // 16, 3)).astype(np.uint8)
    pictures = []
    for one in coarse:
        buffer = io.BytesIO()
        Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    for shard in range(shards):
        with tarfile.open(folder / f"s-{shard:05}.tar", "w") as archive:
            for row, picture in enumerate(pictures):
                text = f"picture {row} of shard {shard}, with some words that describe it".encode()
                for extension, data in (("jpg", picture), ("txt", text)):
                    info = tarfile.TarInfo(f"{shard:05}-{row:04}.{extension}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return str(folder / f"s-{{00000..{shards - 1:05}}}.tar")


def our_loader(manifest: str, size: int, batch: int, workers: int, epoch: int) -> Any:
    """Our loader of a streamed run."""
    from mmalign import DataConfig, Dataset, TowerConfig, fit_transforms, modality_of
    from mmalign.training.data_module import TrainingData

    towers = {"image": TowerConfig(encoder="convnet", transform={"size": size}), "text": TowerConfig()}
    config = DataConfig(
        "webdataset", manifest, columns={"image": "jpg", "text": "txt"}, stream=True, stream_epoch=epoch,
        batch_size=batch, workers=workers, validation=0.01,
    )  # fmt: skip
    data = Dataset.open(config, {name: modality_of(name, tower) for name, tower in towers.items()})
    train = data.split("train")
    transforms = fit_transforms(towers, {name: train.samples(name) for name in towers})
    return TrainingData(data, transforms).train_dataloader()


def peer_loader(manifest: str, size: int, batch: int, workers: int, epoch: int) -> Any:
    """open_clip's loader, with its evaluation transform, which augments as little as ours."""
    import open_clip
    import webdataset
    from open_clip.transform import image_transform
    from open_clip_train import data

    settings = SimpleNamespace(
        train_data=manifest, train_num_samples=epoch, dataset_resampled=False, train_data_upsampling_factors=None,
        seed=0, batch_size=batch, workers=workers, world_size=1,
    )  # fmt: skip
    data.tarfile_to_samples_nothrow = webdataset.tarfile_to_samples(handler=data.log_and_continue)
    info = data.get_wds_dataset(
        settings, image_transform(size, is_train=False), True, tokenizer=open_clip.get_tokenizer("ViT-B-32")
    )
    return info.dataloader


LOADERS = {"mmalign": our_loader, "open_clip": peer_loader}


def first_batch(manifest: str) -> dict[str, float]:
    """Processor time and memory until the first batch, in this process."""
    import resource

    import torch  # noqa: F401 - not counted

    import mmalign
    from mmalign.training import data_module  # noqa: F401

    for tower in ("image", "text"):
        mmalign.modality_of(tower, mmalign.TowerConfig())
    import webdataset  # noqa: F401

    before, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    next(iter(our_loader(manifest, 64, 64, 0, 10**6)))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return {"seconds": time.process_time() - before, "MiB": grown / 1024}


def throughput(name: str, manifest: str, size: int, workers: int, batches: int) -> float:
    """Rows per second, after the first batches, which fill buffers."""
    batch, warm = 64, 4
    loader = iter(LOADERS[name](manifest, size, batch, workers, (batches + warm + 8) * batch))
    for _ in range(warm):
        next(loader)
    start = time.perf_counter()
    for _ in range(batches):
        next(loader)
    return batches * batch / (time.perf_counter() - start)


def cost(seconds: float, mebibytes: float) -> dict[str, str]:
    """Two cells of the first table."""
    return {"processor time until the first batch": f"{seconds:.2f} s", "memory": f"{mebibytes:.0f} MiB"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[20, 2000])
    parser.add_argument("--rows", type=int, default=60, help="rows of a shard")
    parser.add_argument("--side", type=int, default=256, help="side of the stored pictures")
    parser.add_argument("--size", type=int, default=224, help="side of the loaded pictures")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-batch", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first_batch:
        print(json.dumps(first_batch(arguments.first_batch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        lines: list[dict[str, str]] = []
        for shards in arguments.shards:
            manifest = write(Path(folder) / f"small{shards}", shards, arguments.rows, 32)
            runs = []
            for _ in range(arguments.rounds):
                command = [sys.executable, __file__, "--first-batch", manifest]
                ended = subprocess.run(command, capture_output=True, text=True, check=True)
                runs.append(json.loads(ended.stdout.splitlines()[-1]))
            seconds, memory = (statistics.median(run[key] for run in runs) for key in ("seconds", "MiB"))
            rows = f"{shards * arguments.rows:,}"
            lines.append({"shards": f"{shards}", "rows": rows, **cost(seconds, memory)})
        print(table(lines), flush=True)
        manifest = write(Path(folder) / "large", 16, 100, arguments.side)
        lines = []
        for workers in (1, 2):
            rates: dict[str, list[float]] = {name: [] for name in LOADERS}
            for _ in range(arguments.rounds):
                for name, found in rates.items():
                    found.append(throughput(name, manifest, arguments.size, workers, arguments.batches))
            ours, peer = (statistics.median(rates[name]) for name in ("mmalign", "open_clip"))
            rates_shown = {"mmalign, rows/s": f"{ours:.0f}", "open_clip, rows/s": f"{peer:.0f}"}
            lines.append({"workers": f"{workers}", **rates_shown, "ratio": f"{ours / peer:.2f}"})
        print(table(lines))


if __name__ == "__main__":
    main()
