"""`python -m tests.kill`: kill train, save, embed, evaluate and a cache at many points, go on, and compare to the bit.

Half of the points lie before file operations (opening for writing, renaming, linking, deleting), evenly over all of
them; the others at random processor times. After each kill, what is on the disk must be the former state, the new one,
or refused; going on must end in the very result of an undisturbed run. Then checkpoints with flipped bits must be
refused or equal.

    python -m tests.kill --points 100 --damaged 40
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

SHARES = {"train": 0.5, "save": 0.15, "embed": 0.1, "evaluate": 0.15, "cache": 0.1}


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--points", type=int, default=100, help="number of kills, over all operations")
    parser.add_argument("--damaged", type=int, default=40, help="number of damaged checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random points")
    parser.add_argument("--only", action="append", default=[], help="operations: train, save, embed, evaluate, cache")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    arguments = parser.parse_args()
    from tests.kill.operations import OPERATIONS, preload
    from tests.kill.points import damage, kill_all

    preload()
    chosen = [one for one in OPERATIONS if not arguments.only or one.name in arguments.only]
    counts: dict[str, Counter[str]] = {}
    start, faults = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="kill") as name:
        for operation in chosen:
            number = max(1, round(arguments.points * SHARES[operation.name]))
            place = Path(name) / operation.name
            place.mkdir()
            rng = random.Random(f"{arguments.seed} {operation.name}")
            counts[operation.name], wrong = kill_all(operation, place, number, rng)
            faults += wrong
            print(f"{operation.name:10}{_shown(counts[operation.name])}", flush=True)
            if operation.name == "train" and arguments.damaged:
                counts["damaged"], wrong = damage(place / "reference", arguments.damaged, rng)
                faults += wrong
                print(f"{'damaged':10}{_shown(counts['damaged'])}", flush=True)
            shutil.rmtree(place)
    total: Counter[str] = sum((one for key, one in counts.items() if key != "damaged"), Counter())
    print(f"{_shown(total)}; {len(faults)} faults, {time.monotonic() - start:.0f} s")
    for fault in faults:
        print(f"FAULT {fault}")
    if arguments.json:
        report: dict[str, Any] = {"counts": {key: dict(one) for key, one in counts.items()}, "faults": faults}
        arguments.json.write_text(json.dumps(report))
    return 1 if faults else 0


def _shown(counts: "Counter[str]") -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
