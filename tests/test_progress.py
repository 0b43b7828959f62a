"""Progress bars: on a terminal, after a while, and nowhere else."""

import io
import sys
import time
from collections.abc import Iterator

import pytest

from mmalign.safe_io import progress
from mmalign.safe_io.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def slow() -> Iterator[int]:
    for item in range(50):
        if item == 25:
            time.sleep(0.15)  # bars are drawn ten times a second at most
        yield item


def test_long_work_shows_a_bar_and_removes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "DELAY", 1e-9)
    assert list(track(slow(), "embedding left", 50)) == list(range(50))
    assert "embedding left" in terminal.getvalue()
    assert "/50" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")  # nothing stays on the line


def test_quick_work_shows_no_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert sum(track([1, 2, 3], "adding")) == 6
    assert terminal.getvalue() == ""


def test_no_progress_bar_is_written_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "DELAY", 1e-9)
    assert sum(track([1, 2, 3], "adding")) == 6
    assert log.getvalue() == ""
