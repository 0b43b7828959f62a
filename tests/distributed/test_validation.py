"""Values of validation on several processes equal those of one; functions of own rows say that they are."""

import pytest

from tests.distributed.pool import Pool
from tests.distributed.validation_work import hits, warned


@pytest.mark.parametrize("most", [100, 10])
@pytest.mark.parametrize("processes", [2, 3])
def test_hit_rates_equal_those_of_one_process(pool: Pool, processes: int, most: int) -> None:
    whole = hits(most)
    assert whole.keys() == {f"{a}_to_{b}" for a, b in ("xy", "yx", "yz", "zy", "xz", "zx")}
    assert any(whole.values())
    for each in pool.run("validation_work:hits", processes, most):
        assert each == pytest.approx(whole, abs=1e-12)


def test_a_loss_of_own_rows_names_the_objective_that_gathers_once(pool: Pool) -> None:
    assert not any(warned(None).values())  # of one process
    for each in pool.run("validation_work:warned", 2, None):
        silent = {name for name, lines in each.items() if not lines}
        assert silent == {"gaussian_kl", "sparsemax"}  # row by row
        for name in each.keys() - silent:
            (line,) = each[name]
            assert line.startswith(f"validation_work.py: functional.{name} compares the rows that it gets")
            assert " objective " in line
