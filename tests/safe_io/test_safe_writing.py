"""A file is the former one or the whole new one; one process at a time holds a lock."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmalign.errors import UserError
from mmalign.safe_io.safe_writing import locked, replaced


def test_error_during_writing_leaves_the_previous_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("former")

    def write() -> None:
        with replaced(file) as partial:
            partial.write_text("half of the n")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write()
    assert file.read_text() == "former"
    assert os.listdir(tmp_path) == ["a.json"]


def test_kill_during_writing_leaves_the_previous_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("former")
    program = (
        "import os, signal\nfrom mmalign.safe_io.safe_writing import replaced\n"
        "with replaced('a.json') as partial:\n"
        "    partial.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == -9
    assert file.read_text() == "former"
    with replaced(file) as partial:
        partial.write_text("new")
    assert file.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="processes are asked for by a signal")
def test_next_save_removes_partial_files_of_killed_saves(tmp_path: Path) -> None:
    """Only files of this pattern, whose process has ended, and which nobody has touched for ten minutes."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    process, now = ended.pid, time.time()
    left = [f".a.json.{process}.partial.json", f".b.{process}.partial", f".last.ckpt.{process}.partial.ckpt"]
    kept = [
        f".a.json.{os.getpid()}.partial.json", f".a.json.{process}.partial.txt", f"a.json.{process}.partial.json",
        f".a.json.{process}.partial.json.bak", ".a.json.0.partial.json", f".a.{process}.part", "a.partial",
    ]  # fmt: skip
    for name in [*left, *kept]:
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (now - 700, now - 700))
    young = f".c.json.{process}.partial.json"
    (tmp_path / young).write_text("half")
    os.symlink("a.partial", tmp_path / f".d.{process}.partial")
    with replaced(tmp_path / "a.json") as partial:
        partial.write_text("new")
    expected = {"a.json", *kept, young, f".d.{process}.partial"} - {f".a.json.{os.getpid()}.partial.json"}
    assert set(os.listdir(tmp_path)) == expected


def test_a_lock_is_held_by_one_process(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom mmalign.safe_io.safe_writing import locked\n"
        "with locked(Path('lock'), 'the folder'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(UserError, match=rf"^the folder is in use by another process \(number {holder.pid}\)"),
        locked(tmp_path / "lock", "the folder", wait=0.1),
    ):
        pass
    holder.kill()  # the lock ends with its process
    holder.wait()
    with locked(tmp_path / "lock", "the folder"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    holder.stdin.close()
    holder.stdout.close()
