"""The bootstrap against what it must give: coverage, scikit-free loops, degenerate data."""

import numpy as np
import pytest

from mmalign.evaluation.metrics import bootstrap as boot


def slow_draws(records: int, resamples: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, records, records) for _ in range(resamples)]


@pytest.fixture
def clustered() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    records = np.repeat(np.arange(12), rng.integers(1, 5, 12)) * 7 + 3  # any integers, unequal sizes
    return rng.integers(1, 30, len(records)).astype(float), records


def rows_of(drawn: np.ndarray, records: np.ndarray) -> np.ndarray:
    names = np.unique(records)
    return np.concatenate([np.flatnonzero(records == names[one]) for one in drawn])


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_equals_a_loop_over_resamples(statistic: str, clustered: tuple[np.ndarray, np.ndarray]) -> None:
    values, records = clustered
    drawn = [getattr(np, statistic)(values[rows_of(d, records)]) for d in slow_draws(12, 200, seed=5)]
    expected = np.percentile(drawn, [2.5, 97.5])
    if statistic == "mean":
        got = boot.means(values[:, None], records, resamples=200, seed=5)[0]
    else:
        got = boot.median(values, records, resamples=200, seed=5)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_recomputed_equals_means(clustered: tuple[np.ndarray, np.ndarray]) -> None:
    values, records = clustered
    got = boot.recomputed(lambda rows: np.array([values[rows].mean()]), records, resamples=100, seed=2)
    np.testing.assert_allclose(got, boot.means(values[:, None], records, resamples=100, seed=2))


def test_class_means_equal_a_loop(clustered: tuple[np.ndarray, np.ndarray]) -> None:
    values, records = clustered
    classes = np.arange(len(values)) % 3
    classes[classes == 2] = 40
    drawn = []
    for d in slow_draws(12, 150, seed=4):
        rows = rows_of(d, records)
        present = np.unique(classes[rows])
        drawn.append(np.mean([values[rows][classes[rows] == kind].mean() for kind in present]))
    got = boot.class_means(values, classes, records, resamples=150, seed=4)
    np.testing.assert_allclose(got, np.percentile(drawn, [2.5, 97.5]), rtol=1e-12)


def test_blocks_change_nothing(clustered: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    values, records = clustered
    whole = (
        boot.means(values[:, None], records, resamples=50, seed=0),
        boot.median(values, records, resamples=50, seed=0),
    )
    monkeypatch.setattr(boot, "_CELLS", 40)
    assert whole == (
        boot.means(values[:, None], records, resamples=50, seed=0),
        boot.median(values, records, resamples=50, seed=0),
    )


def test_intervals_cover_a_known_fraction() -> None:
    """Bernoulli(0.3), 150 draws: about 95 of 100 intervals hold 0.3; the normal formula's width."""
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for trial in range(200):
        sample = (rng.random(150) < 0.3).astype(float)[:, None]
        low, high = boot.means(sample, np.arange(150), resamples=400, seed=trial)[0]
        covered += low <= 0.3 <= high
        widths.append(high - low)
    assert 0.90 <= covered / 200 <= 0.98
    assert np.mean(widths) == pytest.approx(2 * 1.96 * (0.3 * 0.7 / 150) ** 0.5, rel=0.05)


def test_one_record_has_no_spread() -> None:
    values, records = np.array([0.25, 0.75]), np.array([9, 9])
    assert boot.means(values[:, None], records, resamples=20, seed=0) == [[]]
    assert boot.median(values, records, resamples=20, seed=0) == []
    assert boot.class_means(values, np.array([0, 1]), records, resamples=20, seed=0) == []
    assert boot.recomputed(lambda rows: values[rows], records, resamples=20, seed=0) == [[], []]
    assert boot.weighted(lambda weights: weights @ values[:, None], records, resamples=20, seed=0) == [[]]


def test_undefined_draws_are_left_out() -> None:
    """A statistic that a draw does not define says NaN: the others give the interval, and none gives no interval."""
    records = np.arange(4)
    got = boot.recomputed(lambda rows: np.array([1.0 if 0 in rows else np.nan, np.nan]), records, resamples=30, seed=0)
    assert got == [[1.0, 1.0], []]


@pytest.mark.parametrize("clusters", [np.zeros(5, np.int64), np.zeros(1, np.int64)], ids=["one group", "one record"])
def test_one_record_or_group_has_no_interval(clusters: np.ndarray) -> None:
    """Every resample is the same one: an interval of no width would look certain."""
    values = np.arange(float(len(clusters)))
    assert boot.recomputed(lambda rows: values[rows].mean(keepdims=True), clusters, resamples=20, seed=0) == [[]]
    assert boot.weighted(lambda weights: weights @ values[:, None], clusters, resamples=20, seed=0) == [[]]
