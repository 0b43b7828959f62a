import math

import pytest
import torch

from mmalign import distributed
from tests.distributed.pool import Pool


@pytest.mark.parametrize("counts", [[3], [2, 2], [1, 4], [2, 1, 3], [0, 2, 1], [3, 0, 0]], ids=str)
def test_gathers_uneven_rows_with_the_sum_of_all_gradients(pool: Pool, counts: list[int]) -> None:
    world, total = len(counts), sum(counts)
    answers = pool.run("gather", world, counts)
    whole = torch.arange(total * 2, dtype=torch.float64).reshape(-1, 2)
    # Row j weighs (rank + 1) (j + 1) on each rank: the sum over ranks reaches its owner.
    gradient = torch.arange(1, total + 1, dtype=torch.float64)[:, None].expand(-1, 2) * sum(range(1, world + 1))
    for answer in answers:
        assert answer["counts"] == counts
        torch.testing.assert_close(answer["gathered"], whole, rtol=0.0, atol=0.0)
        torch.testing.assert_close(answer["ids"], torch.arange(total))
    parts = torch.cat([answer["gradient"] for answer in answers])
    torch.testing.assert_close(parts, gradient, rtol=1e-14, atol=0.0)


def test_merges_what_each_process_summed(pool: Pool) -> None:
    partials = [[0.0, 700.0, -math.inf], [1.0, -700.0, 2.0], [-math.inf, 3.0, 2.0]]
    answers = pool.run("merge", 3, partials)
    stacked = torch.tensor(partials, dtype=torch.float64)
    for rank, answer in enumerate(answers):
        torch.testing.assert_close(answer["merged"], stacked.logsumexp(0))
        torch.testing.assert_close(answer["total"], stacked.exp().sum(0))
        torch.testing.assert_close(answer["gradient"], 6 * stacked.softmax(0)[rank])


def test_one_process_needs_no_group() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert distributed.gather_rows(rows) is rows
    assert distributed.merge_logsumexp(rows) is rows
    assert distributed.row_counts(3) == [3]
    assert distributed.own_rows([3]) == slice(0, 3)
    assert (distributed.rank(), distributed.world_size(), distributed.is_distributed()) == (0, 1, False)
    torch.testing.assert_close(distributed.all_reduce_sum(rows), rows.detach())
