"""`python -m tests.fuzz`: run a campaign, print the table of counts, keep a reproducer of each fault; exit 1 if any.

python -m tests.fuzz --cases 10000
python -m tests.fuzz --only "reader ecg" --cases 500 --seed 3
python -m tests.fuzz --again fuzz-faults/reader-ecg-exception-1a2b3c4d
"""

import argparse
import json
import os
import pickle
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="number of cases, spread over the targets")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each target")
    parser.add_argument("--seed", type=int, default=0, help="seed of all mutations")
    parser.add_argument("--only", action="append", default=[], help="targets with this text in their names")
    parser.add_argument("--out", type=Path, default=Path("fuzz-faults"), help="folder of the reproducers")
    parser.add_argument("--json", type=Path, help="write counts and faults to this file")
    parser.add_argument("--again", type=Path, help="run one kept reproducer again")
    arguments = parser.parse_args()
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="hf") as cache:
        os.environ["HF_DATASETS_CACHE"] = cache
        return _again(arguments.again) if arguments.again else _campaign(arguments)


def _campaign(arguments: argparse.Namespace) -> int:
    from tests.fuzz import campaign
    from tests.fuzz.targets.registered import missing_seeds, targets

    start = time.monotonic()
    made = targets(arguments.only)
    print(
        f"{len(made)} targets, {sum(len(one.seeds) for one in made)} seeds in {time.monotonic() - start:.0f} s",
        flush=True,
    )
    for name in missing_seeds():
        print(f"{name}: no seeds of its own; toy samples and files of other formats are used")
    report = campaign.run(
        made, arguments.cases, arguments.seed, arguments.first, say=lambda line: print(line, flush=True)
    )
    by_name = {target.name: target for target in made}
    for fault in report.faults.values():
        if fault.outcome.kind in ("exception", "nonsense", "quoted", "crash"):
            campaign.shrink(by_name[fault.target], fault)
        print(f"kept {campaign.keep(fault, arguments.out)} ({fault.case.size} bytes)")
    print(report.table())
    seconds = sum(os.times()[:4])
    print(f"{report.totals.total()} cases, {len(report.faults)} faults, {seconds:.0f} s of processor time")
    if arguments.json:
        arguments.json.write_text(json.dumps({**report.to_json(), "seconds": seconds, "missing": missing_seeds()}))
    return 1 if report.faults else 0


def _again(folder: Path) -> int:
    from tests.fuzz.case import Case
    from tests.fuzz.processes import run_batch
    from tests.fuzz.targets.registered import targets

    case: Case = pickle.loads((folder / "case.pickle").read_bytes())
    about = json.loads((folder / "fault.txt").read_text().split("\n\n")[0])
    target = next(target for target in targets([about["target"]]) if target.name == about["target"])
    outcome = next(iter(run_batch([(target, lambda: case)])))
    print(f"{outcome.kind}: {outcome.where}\n{outcome.detail}")
    return 1 if outcome.fault else 0


if __name__ == "__main__":
    sys.exit(main())
