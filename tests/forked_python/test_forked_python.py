"""A forked process is like a fresh one: arguments, folder, environment, streams, exit status, signals, and its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
STATE = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ.get("MARK"), "GONE" in os.environ, __name__, sys.stdin.read())
print(sys.path[:2])
print("to stderr", file=sys.stderr)
sys.exit(7)
"""


def run(python: Path | str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize("way", ["file", "program", "module"])
def test_state_equals_that_of_a_fresh_process(way: str, forked_python: Path, tmp_path: Path) -> None:
    (tmp_path / "state.py").write_text(STATE)
    arguments = {"file": ["state.py"], "program": ["-c", STATE], "module": ["-m", "state"]}[way]
    environment = os.environ | {"MARK": "ä", "PYTHONPATH": str(tmp_path / "added"), "OMP_NUM_THREADS": "1"}
    options = {"cwd": tmp_path, "env": environment, "input": "typed"}
    fresh = run(sys.executable, *arguments, "a", "b c", **options)
    forked = run(forked_python, *arguments, "a", "b c", **options)
    assert (forked.returncode, forked.stdout, forked.stderr) == (7, fresh.stdout, "to stderr\n")
    assert fresh.returncode == 7
    assert "typed" in forked.stdout


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("", 0),
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit('a reason')", 1),
        ("raise ValueError('wrong')", 1),
        ("import os; os._exit(9)", 9),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_exit_status_equals_that_of_a_fresh_process(program: str, status: int, forked_python: Path) -> None:
    fresh, forked = (run(python, "-c", program) for python in (sys.executable, forked_python))
    assert (fresh.returncode, forked.returncode) == (status, status)
    assert fresh.stderr.splitlines()[-1:] == forked.stderr.splitlines()[-1:]


AT_THE_END = """
import atexit, ctypes, sys, threading, time
atexit.register(lambda: print("last"))
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
left = open("left", "w")
left.write("left")
sys.stdout.write("no newline ")
ctypes.CDLL(None).printf(b"from C ")
"""


def test_a_process_ends_like_a_fresh_one(forked_python: Path, tmp_path: Path) -> None:
    """Threads are waited for, functions of `atexit` run, and nothing that was written is lost."""
    printed = []
    for python in (sys.executable, forked_python):
        ended = run(python, "-c", AT_THE_END, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        printed.append(sorted(ended.stdout.split()))
        assert (tmp_path / "left").read_text() == "left"
        (tmp_path / "left").unlink()
    assert printed[0] == printed[1] == sorted(["no", "newline", "from", "C", "thread", "last"])


def test_the_script_of_the_command_runs(forked_python: Path) -> None:
    fresh, forked = (run(Path(python).parent / "mmalign", "--help") for python in (sys.executable, forked_python))
    assert forked.stdout == fresh.stdout
    assert forked.returncode == fresh.returncode == 0


def test_the_packages_are_imported_and_the_package_under_test_is_not(forked_python: Path) -> None:
    program = "import sys; print('torch' in sys.modules, 'mmalign' in sys.modules)"
    assert run(forked_python, "-c", program).stdout == "True False\n"


def test_processes_share_no_state(forked_python: Path) -> None:
    program = """
import random, numpy, torch
torch.marked = getattr(torch, "marked", 0) + 1
print(torch.marked, random.random(), numpy.random.rand(), torch.rand(1).item())
"""
    marked, other = (run(forked_python, "-c", program).stdout.split() for _ in range(2))
    assert marked[0] == other[0] == "1"
    assert len(marked) == 4
    assert not set(marked[1:]) & set(other[1:])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_process(number: signal.Signals, forked_python: Path) -> None:
    program = (
        "import signal, sys, time\n"
        f"signal.signal({number}, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    started = subprocess.Popen([forked_python, "-c", program], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.send_signal(number)
    started.communicate(timeout=30)
    assert started.returncode == 5


WITH_A_CHILD = "import os, time; os.fork(); os.write(1, f'{os.getpid()}\\n'.encode()); time.sleep(60)"


def ended(processes: list[int]) -> bool:
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(psutil.pid_exists(process) for process in processes)


def test_a_process_and_its_children_end_with_their_client(forked_python: Path) -> None:
    started = subprocess.Popen([forked_python, "-c", WITH_A_CHILD], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    processes = [int(started.stdout.readline()) for _ in range(2)]
    started.kill()
    started.communicate()
    assert ended(processes)


def test_child_processes_end_with_a_killed_owner() -> None:
    """As a worker of pytest-xdist that crashes."""
    program = (
        "import subprocess\n"
        "from tests.forked_python.fixture import start_server\n"
        "with start_server(['yaml']) as python:\n"
        f"    subprocess.run([python, '-c', {WITH_A_CHILD!r}])\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert owner.stdout is not None
    processes = [int(owner.stdout.readline()) for _ in range(2)]
    server = [process.pid for process in psutil.Process(owner.pid).children()]
    owner.kill()
    owner.communicate()
    assert ended([*processes, *server])


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        (["-X", "importtime"], {}, "neither -m MODULE, nor -c PROGRAM, nor FILE"),
        ([], {}, "neither -m MODULE"),
        (["-c", ""], {"PYTHONHASHSEED": "1"}, "PYTHONHASHSEED"),
        (["-c", ""], {"OMP_NUM_THREADS": "2"}, "OMP_NUM_THREADS is '1' here and '2' in the request"),
        (["-c", ""], {"PYTHONPATH": "other"}, "the imported torch is not the one in"),
    ],
)
def test_code_that_needs_a_new_interpreter_is_an_error(
    arguments: list[str], environment: dict[str, str], reason: str, forked_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "other" / "torch").mkdir(parents=True)
    refused = run(forked_python, *arguments, cwd=tmp_path, env=os.environ | environment)
    assert refused.returncode == 70
    assert reason in refused.stderr


def test_a_command_may_have_the_name_of_a_package(forked_python: Path, tmp_path: Path) -> None:
    (tmp_path / "torch").touch()
    (tmp_path / "program.py").write_text("import torch; print(torch.__name__)")
    assert run(forked_python, str(tmp_path / "program.py")).stdout == "torch\n"


def test_a_server_that_has_ended_is_an_error(tmp_path: Path) -> None:
    client = Path(__file__).parent / "client.py"
    failed = run(sys.executable, "-IS", str(client), str(tmp_path / "socket"), "-c", "")
    assert failed.returncode == 70
    assert "no server answers" in failed.stderr
