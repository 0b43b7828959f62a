"""Retrieval by the vectors of a program: equal scores and NaN count against it."""

import pytest
import torch

from mmalign.exporting import parity


def hits(of_a: torch.Tensor, of_b: torch.Tensor) -> dict[str, float]:
    return parity._hits("a", "b", of_a, of_b)


@pytest.mark.parametrize(
    ("program", "expected"), [(torch.eye(4), 1.0), (torch.ones(4, 4), 0.0), (torch.full((4, 4), torch.nan), 0.0)]
)
def test_a_program_without_an_answer_has_no_hits(program: torch.Tensor, expected: float) -> None:
    found = hits(program, torch.eye(4))
    assert found["hit@1 a_to_b"] == expected
    assert found["hit@1 b_to_a"] == expected
    assert found["hit@10 a_to_b"] == 1.0
