"""Reading ECG records and preparing them for an encoder: records a second, beside `wfdb.rdrecord` in a loop.

python tests/benchmarks/ecg_reading.py FOLDER           # a folder of WFDB records, such as PTB-XL's records100
python tests/benchmarks/ecg_reading.py                  # MMALIGN_DATA/ptbxl_500/records100
python tests/benchmarks/ecg_reading.py --count 20 --repeats 1 --processes 1    # does it run at all

The sides take turns over the same files in one process, so that what else the machine does meets all of them; each
figure is the median of the repeats. `prepared` is read, checked, band-passed, resampled, cropped and normalised: all
that a training step needs. With `--processes 2` the last line shares the files between that many processes.
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from modalities.ecg import MODALITY
from modalities.ecg.read import read_ecg

TRANSFORM = MODALITY.transform("resnet", {})


def by_wfdb(heads: Sequence[Path]) -> None:
    import wfdb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for head in heads:
            wfdb.rdrecord(str(head.with_suffix("")))


def ours(heads: Sequence[Path]) -> None:
    for head in heads:
        read_ecg(head)


def prepared(heads: Sequence[Path]) -> None:
    for head in heads:
        TRANSFORM.item(read_ecg(head))


def seconds(work: Callable[[Sequence[Path]], None], heads: Sequence[Path]) -> tuple[float, float]:
    """Wall and processor time: on a machine that does other things, only the latter is the work's own."""
    start = time.perf_counter(), time.process_time()
    work(heads)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("MMALIGN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    parser.add_argument("folder", type=Path, nargs="?", default=data / "ptbxl_500" / "records100")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    heads = sorted(given.folder.rglob("*.hea"))[: given.count]
    if not heads:
        parser.error(f"no .hea files below {given.folder}")
    sides = {"wfdb.rdrecord": by_wfdb, "read_ecg": ours, "prepared": prepared}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for work in sides.values():
        work(heads[:5])  # imports, and files into the page cache
    for _ in range(given.repeats):
        for name, work in sides.items():
            times[name].append(seconds(work, heads))
    print(f"{len(heads)} records, load {os.getloadavg()[0]:.1f}")
    for place, clock in enumerate(("wall", "processor")):
        middle = {name: statistics.median(value[place] for value in values) for name, values in times.items()}
        for name, value in middle.items():
            ratio = middle["wfdb.rdrecord"] / value
            print(f"{name:16} {len(heads) / value:8.0f} records/s of {clock} time   x{ratio:.2f}")
    if given.processes > 1:
        shares = [heads[place :: given.processes] for place in range(given.processes)]
        with ProcessPoolExecutor(given.processes) as pool:
            list(pool.map(prepared, [share[:5] for share in shares]))
            start = time.perf_counter()
            list(pool.map(prepared, shares))
            print(
                f"{given.processes} processes      {len(heads) / (time.perf_counter() - start):8.0f} records/s prepared"
            )


if __name__ == "__main__":
    main()
