"""The benchmark of transport in its smallest size: both sides solve the same problems to the same error."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("ot")


def test_every_row_runs_and_both_peers_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import transport

    threads = torch.get_num_threads()
    rows = transport.main(["--quick", "--repeats", "2", "--threads", "1", "--json", str(tmp_path / "rows.json")])
    torch.set_num_threads(threads)
    assert len(rows) == len(transport.ROWS)
    for row in rows:
        assert 0 < float(str(row["ours_error"])) <= 1.01 * transport.ERROR
        assert 0 < float(str(row["peer_error"])) <= transport.ERROR
        assert float(str(row["time_ratio"])) > 0
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert capsys.readouterr().out.count("\n") == len(rows) + 2


@pytest.mark.parametrize("name", ["plain", "masked", "loop", "value"])
def test_the_plan_does_not_depend_on_the_order_of_the_towers(name: str) -> None:
    import transport

    row = transport.ROWS[name](True)
    torch.testing.assert_close(row.ours(), row.theirs().float(), rtol=0, atol=2e-3)


def test_peer_runs_the_fewest_iterations_that_reach_the_error() -> None:
    import transport

    problem = transport.batch(True, masked=True)
    count = transport.iterations(problem)
    assert transport.error(problem, transport._solve_batch(problem, count)) <= transport.ERROR
    assert transport.error(problem, transport._solve_batch(problem, count - 1)) > transport.ERROR
    assert 0.0 in problem.a
    assert 0.0 in problem.b
