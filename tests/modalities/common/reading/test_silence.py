"""`Silence`: one beginning and one end, whatever blocks overlap."""

import threading
from contextlib import ExitStack

import pytest

from modalities.common.reading.silence import Silence


@pytest.fixture
def states() -> list[str]:
    return []


@pytest.fixture
def quiet(states: list[str]) -> Silence:
    def begin(undo: ExitStack) -> None:
        states.append("silent")
        undo.callback(states.append, "restored")

    return Silence(begin)


def test_nested_blocks_begin_and_end_once(quiet: Silence, states: list[str]) -> None:
    with quiet, quiet:
        with quiet:
            pass
        assert states == ["silent"]
    assert states == ["silent", "restored"]
    with quiet:
        assert states == ["silent", "restored", "silent"]


def test_an_error_restores_and_passes(quiet: Silence, states: list[str]) -> None:
    with pytest.raises(ValueError, match="damaged"), quiet:
        raise ValueError("damaged")
    assert states == ["silent", "restored"]


def test_the_last_thread_to_end_restores(quiet: Silence, states: list[str]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with quiet:
            inside.set()
            assert leave.wait(10)

    thread = threading.Thread(target=work)
    with quiet:
        thread.start()
        assert inside.wait(10)
    assert states == ["silent"]
    leave.set()
    thread.join()
    assert states == ["silent", "restored"]
