"""Runs a module as `python -m` would, and writes when each optimiser step ended: on the clock, and in processor time.

The clock is torch's own global optimiser hook, so that two programs are timed by one rule without touching either.
Call: `python stepclock.py TIMES.json MODULE [the module's arguments]`.
"""

import atexit
import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook


def main(out: Path, module: str) -> None:
    """Run the module; `out` gets readings in seconds, one a step, also when the module exits early.

    Processor time is this process's, all threads, without the workers of a data loader.
    """
    ends: dict[str, list[float]] = {"wall": [], "processor": []}

    def record(*_: Any) -> None:
        ends["wall"].append(time.perf_counter())
        ends["processor"].append(time.process_time())

    register_optimizer_step_post_hook(record)
    atexit.register(lambda: out.write_text(json.dumps(ends)))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    out, module = Path(sys.argv[1]), sys.argv[2]
    # The folder of this script is no place to import from: the module must see what `python -m` would show it.
    sys.path[0] = ""
    sys.argv = [module, *sys.argv[3:]]
    main(out, module)
