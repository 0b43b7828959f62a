"""Few-shot folds: sizes, whole groups on one side, eligible classes by exhaustive search, seeds."""

from itertools import combinations

import numpy as np
import pytest

from mmalign.errors import UserError
from mmalign.evaluation.probing.folds import Fold, draw_fold, eligible_classes


def data(seed: int, *, shared: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Classes and groups of 300 samples; with `shared`, every group has samples of two classes."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 8, 300)
    groups = rng.integers(0, 12, 300)
    return classes, (groups * 8 + (classes // 2 if shared else classes))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_fold_has_its_sizes_and_never_splits_a_group(seed: int, shared: bool) -> None:
    classes, groups = data(seed, shared=shared)
    for number in range(4):
        fold = draw_fold(classes, groups, ways=5, shots=5, queries=10, seed=(seed, number))
        assert (fold.support.shape, fold.query.shape) == ((5, 5), (5, 10))
        assert len(np.unique(np.concatenate([fold.support.ravel(), fold.query.ravel()]))) == 75
        assert not set(groups[fold.support.ravel()]) & set(groups[fold.query.ravel()])
        for kind, rows in enumerate(fold.support):
            assert len(set(classes[rows]) | set(classes[fold.query[kind]])) == 1
        assert len(set(classes[fold.support[:, 0]])) == 5


@pytest.mark.parametrize("seed", range(30))
def test_eligible_classes_equal_an_exhaustive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 6, 60)
    groups = classes * 10 + rng.integers(0, 5, 60)
    shots, queries = int(rng.integers(1, 6)), int(rng.integers(1, 8))
    expected = []
    for kind in range(6):
        sizes = [int(((groups == g) & (classes == kind)).sum()) for g in np.unique(groups[classes == kind])]
        sides = [sum(some) for count in range(len(sizes) + 1) for some in combinations(sizes, count)]
        if any(side >= shots and sum(sizes) - side >= queries for side in sides):
            expected.append(kind)
    assert eligible_classes(classes, groups, shots, queries).tolist() == expected


def test_class_with_a_single_feasible_split_of_groups_is_drawn() -> None:
    """Ten groups of ten samples and five single samples: 5 shots and 100 queries leave one split of the groups."""
    groups = np.concatenate([np.repeat(range(10), 10), range(10, 15)])
    classes, groups = np.repeat([0, 1], 105), np.concatenate([groups, groups + 20])
    for number in range(5):
        fold = draw_fold(classes, groups, ways=2, shots=5, queries=100, seed=(0, number))
        assert set(groups[fold.support.ravel()] % 20) == set(range(10, 15))


def same(a: Fold, b: Fold) -> bool:
    return bool((a.support == b.support).all() and (a.query == b.query).all())


def test_folds_depend_on_the_seed_and_their_number() -> None:
    classes, groups = data(0)

    def draw(*seed: int) -> Fold:
        return draw_fold(classes, groups, ways=3, shots=2, queries=3, seed=(seed[0], seed[1]))

    assert same(draw(0, 1), draw(0, 1))
    assert not same(draw(0, 1), draw(0, 2))
    assert not same(draw(0, 1), draw(1, 1))


def test_classes_and_samples_are_drawn_uniformly() -> None:
    """No groups: each of 4 classes is in half of the folds of 2 ways, each of its 6 samples in a third as support."""
    classes, groups = np.repeat(range(4), 6), np.arange(24)
    support = np.zeros(24)
    for number in range(2000):
        support[draw_fold(classes, groups, ways=2, shots=2, queries=3, seed=(0, number)).support.ravel()] += 1
    np.testing.assert_allclose(support / 2000, 1 / 6, atol=0.035)  # four standard errors


def test_too_few_classes_and_inseparable_groups_are_refused() -> None:
    classes, groups = np.repeat([0, 1, 2], [20, 20, 4]), np.arange(44)
    with pytest.raises(UserError, match=r"at least 3 classes with 5 \+ 10 samples .* got 2 of 3 .*: 20, 20, 4\)"):
        draw_fold(classes, groups, ways=3, shots=5, queries=10, seed=(0, 0))
    # Each class could be split, but the same two groups hold both: a group that is support for one is so for the other.
    classes = np.array([0] * 6 + [1] * 6)
    groups = np.array([0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1])
    assert eligible_classes(classes, groups, 1, 5).tolist() == [0, 1]
    with pytest.raises(UserError, match="groups with samples of several classes"):
        draw_fold(classes, groups, ways=2, shots=1, queries=5, seed=(0, 0))
