"""The numbers that docs/objectives.md and docs/ecg.md state of losses at random vectors, and of other code."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmalign import functional
from mmalign.objectives.functional.probabilistic import soften
from mmalign.objectives.functional.self_supervised import feature_std

DOCS = Path(__file__).resolve().parents[2] / "docs"


def page(name: str) -> str:
    return " ".join((DOCS / name).read_text(encoding="utf-8").split())


def random_pairs(rows: int, dim: int, seed: int) -> Tensor:
    return normalize(
        torch.randn(2, rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=2
    )


def test_clip_at_random_vectors() -> None:
    losses = [float(functional.clip_loss(*random_pairs(256, 64, seed), 1 / 0.07)) for seed in range(10)]
    mean = sum(losses) / len(losses)
    assert f"`log(batch) + scale^2 / (2 dim)`: {mean:.1f} for 256 pairs in 64 dimensions" in page("objectives.md")
    assert f"where `log(256)` is {math.log(256):.2f}" in page("objectives.md")
    assert mean == pytest.approx(math.log(256) + (1 / 0.07) ** 2 / 128, abs=0.1)


def test_siglip_expects_more_positives_in_few_dimensions() -> None:
    expected = []
    for dim in (512, 64, 16):
        rates = [
            torch.sigmoid(10 * a @ b.T - math.log(255)).sum(1).mean()
            for a, b in (random_pairs(256, dim, s) for s in range(10))
        ]
        expected.append(f"{float(torch.stack(rates).mean()):.1f}")
    many, some, few = expected
    assert f"{many} expected positives per row in 512 dimensions" in page("objectives.md")
    assert f"dimensions, {some} in 64 and {few} in 16" in page("objectives.md")


def test_pseudo_positives_are_those_above_the_lowest_positive() -> None:
    logits, labels = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    # The columns of one row have pseudo-positives where they are positive.
    rows = soften(logits, labels, 1.0, soft=False) * 4 - 2 * labels - labels
    assert rows.tolist() == [[1.0, 1.0, 1.0, 0.0]]
    assert int((logits >= logits[0, labels[0].argmax()]).sum()) == 1  # the released rule
    assert "three are pseudo-positives here and one there" in page("objectives.md")


def test_the_variance_of_a_bag_is_unbiased() -> None:
    members = torch.tensor([[[1.0], [4.0]]], dtype=torch.float64)
    _, log_variance = functional.bag_gaussian(members, torch.ones(1, 2, dtype=torch.bool), floor=-100.0)
    torch.testing.assert_close(log_variance.exp()[0], members[0].var(0, correction=1))
    torch.testing.assert_close(log_variance.exp()[0], 2 * members[0].var(0, correction=0))
    assert "which halves the variance of two members" in page("objectives.md")


def test_inclusion_takes_the_sigmoid_of_the_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, l_a, l_b = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64)
    each = [functional.inclusion_score(*(one[:, k : k + 1] for one in (a, l_a, b, l_b))) for k in range(3)]
    got = functional.inclusion_loss(a, l_a, b, l_b, scale=2.0)
    torch.testing.assert_close(got, -torch.nn.functional.logsigmoid(2 * sum(each)).mean())
    assert "`inclusion_loss` takes that of the sum" in page("objectives.md")


def test_feature_std_of_few_rows() -> None:
    means = [
        torch.stack([feature_std(random_pairs(rows, 64, seed)[0]).mean() for seed in range(50)]).mean()
        for rows in (8, 64)
    ]
    assert f"({means[0]:.2f} for 8 random vectors in 64 dimensions, {means[1]:.2f} for 64 vectors)" in page("ecg.md")
