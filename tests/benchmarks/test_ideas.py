"""The table of ideas: experiments are found, run once, compared with their baseline, and printed."""

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import idea, ideas


def runs_of(calls: list[tuple[str, int]]) -> idea.Idea:
    """Three rows of which each outcome is known: `plain` is right on 1 of 4 items, `better` on 2, `best` on all."""

    def run(settings: str, seed: int, folder: Path) -> idea.Figures:
        calls.append((settings, seed))
        right = np.arange(40) % 4 < {"plain": 1, "better": 2, "best": 4}[settings]
        return {"outcomes": {"hit@1": right.astype(float).tolist()}, "step_s": {"plain": 0.2}.get(settings, 0.1)}

    rows = {name: name for name in ("plain", "better", "best")}
    return idea.Idea("forty items", rows, ("hit@1",), run, against={"best": "better"})


def test_tables_have_paired_differences_and_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, int]] = []
    made = runs_of(calls)
    monkeypatch.setattr(ideas, "ideas", lambda: {"made": made})
    ideas.main(["--out", str(tmp_path), "--seeds", "0", "1"])
    out = capsys.readouterr().out
    assert len(calls) == 6
    ideas.main(["--out", str(tmp_path), "--seeds", "1", "--rows", "plain"])
    assert len(calls) == 6  # the second table trains nothing
    assert "### made: forty items, 2 seeds" in out
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in out.splitlines() if line.startswith("| ")}
    assert cells["plain"][1].startswith("0.250 [")
    assert cells["better"][2].startswith("+0.250 [+")
    assert cells["better"][2].endswith("from plain")
    assert cells["best"][2].startswith("+0.500 [+")
    assert cells["best"][2].endswith("from better")
    assert "100 ms (0.50x)" in cells["better"][3]
    assert "100 ms (1.00x)" in cells["best"][3]


def test_a_part_of_the_rows_is_compared_with_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(ideas, "ideas", lambda: {"made": runs_of(calls)})
    ideas.main(["--out", str(tmp_path), "--seeds", "3", "--rows", "best"])
    assert calls == [("best", 3)]


def test_every_experiment_is_found() -> None:
    known = ideas.ideas()
    assert {"reducer", "nested_sizes", "whitening", "mining", "tuning"} <= known.keys()
    for one in known.values():
        assert set(one.against) | set(one.against.values()) <= set(one.rows)
