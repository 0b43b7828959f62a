"""Runs a module as `python -m` would, and writes when each optimiser step ended.

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
    """Run the module; `out` gets the clock's readings in seconds, one a step, also when the module exits early."""
    ends: list[float] = []

    def record(*_: Any) -> None:
        ends.append(time.perf_counter())

    register_optimizer_step_post_hook(record)
    atexit.register(lambda: out.write_text(json.dumps(ends)))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    out, module = Path(sys.argv[1]), sys.argv[2]
    # The folder of this script is no place to import from: the module must see what `python -m` would show it.
    sys.path[0] = ""
    sys.argv = [module, *sys.argv[3:]]
    main(out, module)
