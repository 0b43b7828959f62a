"""Without the extra: the command's help, the import of mmalign, and the message."""

import subprocess
import sys

import pytest

import mmalign
from mmalign.errors import UserError
from tests.exploring.conftest import Served


def test_help_and_import_do_not_load_gradio() -> None:
    program = (
        "import sys, mmalign; from mmalign.cli import main\n"
        "try: main(['explore', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('gradio', 'uvicorn', 'fastapi')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Serve a page on 127.0.0.1" in ran.stdout


def test_a_missing_extra_is_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(UserError, match=r"pip install 'mmalign\[explore\]'"):
        mmalign.explore(served.bundle, served.table, served.data)
    with pytest.raises(UserError, match="port: expected 0 to 65535"):
        mmalign.explore(served.bundle, served.table, served.data, port=-1)
