"""Figures of a space equal loops in float64 and closed forms; blocks change nothing."""

import math

import numpy as np
import pytest

from mmalign.evaluation.metrics import geometry


def sphere(count: int, dim: int, seed: int) -> np.ndarray:
    return geometry.unit(np.random.default_rng(seed).standard_normal((count, dim)) + 0.5)


def test_figures_of_one_tower_equal_loops_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "BLOCK", 40)  # 3 rows at a time
    rows = sphere(13, 5, 0)
    pairs = [(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
    closeness = [math.exp(-2 * sum((p - q) ** 2 for p, q in zip(x, y, strict=True))) for x, y in pairs]
    assert geometry.uniformity(rows) == pytest.approx(math.log(sum(closeness) / len(pairs)), rel=1e-12)
    cosines = [sum(p * q for p, q in zip(x, y, strict=True)) for x, y in pairs]
    assert geometry.isotropy(rows) == pytest.approx(1 - sum(cosines) / len(pairs), rel=1e-12)
    moment = sum(np.outer(x, x) for x in rows) / len(rows)
    shares = np.linalg.eigvalsh(moment) / np.trace(moment)
    assert geometry.effective_rank(rows) == pytest.approx(math.exp(-sum(s * math.log(s) for s in shares)), rel=1e-10)


def test_figures_of_a_pair_equal_loops() -> None:
    a, b = sphere(11, 4, 1), sphere(11, 4, 2)
    means = [[sum(row[k] for row in rows) / 11 for k in range(4)] for rows in (a, b)]
    assert geometry.modality_gap(a, b) == pytest.approx(math.dist(*means), rel=1e-12)
    np.testing.assert_allclose(
        geometry.squared_distances(a, b), [math.dist(x, y) ** 2 for x, y in zip(a, b, strict=True)]
    )
    moment = sum(np.outer(x - y, x - y) for x, y in zip(a, b, strict=True))
    assert geometry.gap_share(a, b) == pytest.approx(np.linalg.eigvalsh(moment)[-1] / np.trace(moment), rel=1e-12)


def test_a_constant_offset_is_a_gap_in_one_direction_that_centring_removes() -> None:
    rng = np.random.default_rng(3)
    circle = rng.uniform(0, 2 * np.pi, 200)
    flat = np.stack([np.cos(circle), np.sin(circle), np.zeros(200)], axis=1)
    a, b = (geometry.unit(flat + np.array([0, 0, height])) for height in (1.0, -1.0))
    assert geometry.modality_gap(a, b) == pytest.approx(math.sqrt(2), abs=0.02)
    assert geometry.gap_share(a, b) == pytest.approx(1)
    assert geometry.modality_gap(geometry.centred(a), geometry.centred(b)) < 1e-12
    np.testing.assert_allclose(geometry.squared_distances(geometry.centred(a), geometry.centred(b)), 0, atol=1e-20)


def test_identical_towers_have_no_gap() -> None:
    a = sphere(9, 4, 4)
    assert geometry.modality_gap(a, a) == 0
    assert math.isnan(geometry.gap_share(a, a))


def test_equal_and_zero_vectors_have_defined_figures() -> None:
    equal = np.ones((5, 1)) * geometry.unit(np.ones((1, 3)))
    assert geometry.uniformity(equal) == pytest.approx(0, abs=1e-12)
    assert geometry.isotropy(equal) == pytest.approx(0, abs=1e-12)
    assert geometry.effective_rank(equal) == pytest.approx(1)
    zero = geometry.centred(np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert not zero.any()
    assert math.isnan(geometry.effective_rank(zero))
    assert math.isnan(geometry.uniformity(zero[:1]))
    assert math.isnan(geometry.isotropy(zero[:1]))


def test_hubness_equals_skewness_of_neighbour_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "BLOCK", 100)
    gallery = np.concatenate([sphere(40, 6, 5), geometry.unit(np.ones((1, 6)))])
    queries = geometry.unit(np.random.default_rng(6).standard_normal((60, 6)) * 0.2 + 1)
    nearest = geometry.nearest_items(queries, gallery, 3)
    expected = [set(sorted(range(41), key=lambda j, q=query: -float(q @ gallery[j]))[:3]) for query in queries]
    assert [set(row) for row in nearest.tolist()] == expected
    counts = [sum(j in row for row in expected) for j in range(41)]
    mean = sum(counts) / 41
    spread = math.sqrt(sum((c - mean) ** 2 for c in counts) / 41)
    skew = sum((c - mean) ** 3 for c in counts) / 41 / spread**3
    assert geometry.hubness(nearest, 41) == pytest.approx(skew)
    assert skew > 2
    assert max(range(41), key=counts.__getitem__) == 40
    assert math.isnan(geometry.hubness(np.array([[0], [1]]), 2))
