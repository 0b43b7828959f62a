"""The benchmark of the losses in its smallest size: both sides do the same work, and what it says of them is so."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from measuring import Row, disagreement, growth, measure, table
from torch import Tensor

pytest.importorskip("open_clip")


NAMES = ["clip", "clip-100", "siglip", "siglip-100", "pcmepp", "fdt", "late"]


@pytest.mark.parametrize("name", NAMES)
def test_both_peers_do_the_same_work(name: str) -> None:
    import losses

    assert list(losses.ROWS) == NAMES
    row = losses.ROWS[name](True)
    leaves = row.inputs()
    torch.testing.assert_close(row.ours(*leaves), row.theirs(*leaves), rtol=1e-5, atol=1e-6)
    assert 0 < disagreement(row, leaves) < 1e-4
    for leaf, again in zip(leaves, row.inputs(), strict=True):
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 0
        torch.testing.assert_close(leaf, again, rtol=0, atol=0)


def test_the_script_prints_a_row_and_writes_it(
    tmp_path: Path, forked_python: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import losses
    import measuring

    monkeypatch.setattr(sys, "executable", str(forked_python))  # starts the processes that measure the memory
    threads = torch.get_num_threads()
    given = ["--quick", "--only", "late", "--repeats", "2", "--threads", "1", "--json", str(tmp_path / "rows.json")]
    rows = measuring.main("", losses.__file__, losses.ROWS, given)
    torch.set_num_threads(threads)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert [row["work"] for row in rows] == ["Late interaction, 4 x (5, 6) tokens, 8-d"]
    assert capsys.readouterr().out.count("\n") == 3


def _known(quick: bool) -> Row:
    """Ours holds 16 MiB, the peer 64, and the peer's gradient is a tenth larger."""
    count = 1 if quick else 2**22

    def side(parts: int, factor: float) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.zeros(parts, count).sum() + factor * x.sum()

    return Row("w", "p", lambda: (torch.ones(3, requires_grad=True),), side(1, 1.0), side(4, 1.1), 1.0, 0.3)


def test_memory_growth_equals_the_allocated_size() -> None:
    for side, mib in (("ours", 16), ("peer", 64)):
        assert growth(_known, side, False) / 2**20 == pytest.approx(mib, abs=4)


def test_missed_bounds_and_differences_are_reported() -> None:
    row = measure(_known(True), {"ours": 2**20, "peer": 4 * 2**20}, 3)
    assert row["gradient_difference"] == pytest.approx(0.1 / 1.1)
    assert row["memory_ratio"] == 0.25
    row |= {"time_ratio": 1.25}
    line = table([row]).splitlines()[-1]
    assert "1.250x (MISSED: 1)" in line
    assert "0.250x (<= 0.3)" in line
    assert "9e-02" in line
