"""Terms of tokens, teachers and pretraining on several processes equal those of one process on the whole batch."""

from typing import Any

import pytest
import torch

from tests.distributed.pool import Pool
from tests.distributed.terms_work import Outcome, Trial, step

COUNTS = [[7], [4, 4], [5, 2], [4, 1, 2], [3, 0, 4], [0, 0, 5]]
TERMS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "local": ("local", {"attention_temperature": 0.5, "temperature": 0.5}, False),
    "local weighted": ("local", {"attention_temperature": 0.5, "temperature": 0.5, "weighted": True}, False),
    "prototypes": ("prototypes", {"prototypes": 3, "epsilon": 0.3, "dim": 4}, False),
    "cosine": ("distillation", {"match": "cosine"}, True),
    "gaussian": ("distillation", {"match": "gaussian"}, True),
    "relations": ("distillation", {"match": "relations", "temperature": 0.5}, True),
    "views": ("views", {"dim": 4, "variance": 9.0}, False),
    "masked": ("masked", {}, False),
    "masked by chamfer": ("masked", {"distance": "chamfer", "coordinates": 2}, False),
    "comasked": ("comasked", {}, False),
    "nested sizes": ("nested sizes", {}, False),
    "written by an author": ("written by an author", {}, False),
}
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def compare(outcomes: list[Outcome], whole: Outcome) -> None:
    torch.testing.assert_close(torch.stack([each.loss for each in outcomes]).mean(), whole.loss, **CLOSE)
    assert whole.loss > 0
    for name, term in whole.terms.items():  # logged as the mean over processes
        means = torch.stack([each.terms[name] for each in outcomes]).mean()
        torch.testing.assert_close(means, term, **CLOSE if term.dtype == torch.float64 else {})
    for each in outcomes:
        assert each.terms.keys() == whole.terms.keys()
        assert each.gradients.keys() == whole.gradients.keys()
        for name, gradient in whole.gradients.items():
            assert gradient.any()
            torch.testing.assert_close(each.gradients[name], gradient, **CLOSE, msg=lambda text, n=name: f"{n}: {text}")
    for side, gradient in whole.inputs.items():  # DDP averages parameters' gradients only: these are sums
        parts = torch.cat([each.inputs[side] for each in outcomes]) / len(outcomes)
        torch.testing.assert_close(parts, gradient, **CLOSE)


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("term", list(TERMS))
def test_equals_one_process(pool: Pool, term: str, counts: list[int]) -> None:
    objective, arguments, frozen = TERMS[term]
    outcomes = pool.run("terms_work:step", len(counts), Trial(objective, counts, arguments, frozen))
    compare(outcomes, step(Trial(objective, [sum(counts)], arguments, frozen)))
