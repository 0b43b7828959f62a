"""One walk over every registered modality that perturbs samples: valid, seeded, stronger levels change more."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmalign import registry
from mmalign.capabilities import Perturbing
from mmalign.modality import Modality, Transform


def cloud_distance(a: Any, b: Any) -> float:
    """Root mean square displacement by the radius, or the fraction of points removed."""
    if len(a) != len(b):
        return 1 - len(b) / len(a)
    radius = np.linalg.norm(a.points - a.points.mean(axis=0), axis=1).max()
    return float(np.sqrt(((a.points - b.points) ** 2).sum(axis=1).mean()) / radius)


def ecg_distance(a: Any, b: Any) -> float:
    """Root mean square difference by that of the signal where both are valid, or the fraction of it that is lost."""
    if a.valid.sum() != b.valid.sum():
        return 1 - b.valid.sum() / a.valid.sum()
    return float(np.sqrt(((a.signal - b.signal) ** 2).sum() / (a.signal**2).sum()))


DISTANCES: dict[str, Callable[[Any, Any], float]] = {
    "image": lambda a, b: float(np.abs(a.astype(float) - b).mean() / 255),
    "ecg": ecg_distance,
    "pointcloud": cloud_distance,
    "video": lambda a, b: float(np.abs(a.frames.astype(float) - b.frames).mean() / 255),
}
"""How far two samples of a modality are apart; 1 = as different as they may be."""

SETTINGS: dict[str, dict[str, Any]] = {"video": {"size": 64, "frames": 8}}
"""Settings of the transform; supervoxels of 16 frames of the default 224 pixels take half a second a clip."""

LITTLE = 0.2
"""Largest distance of the weakest level."""

CASES = [
    (name, perturbation)
    for name in registry.names("modalities")
    for perturbation in getattr(registry.load("modalities", name), "perturbations", {})
]


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def case(request: pytest.FixtureRequest) -> tuple[Modality, Transform, str, list[Any]]:
    name, perturbation = request.param
    modality = registry.load("modalities", name)
    assert isinstance(modality, Perturbing)
    rng = np.random.default_rng(0)
    samples = [modality.toy_sample(label, rng) for label in (0, 3, 7, 5, 9)]
    transform = modality.transform(next(iter(modality.encoders)), {}, **SETTINGS.get(name, {}))
    transform.fit(samples if transform.fit_before_featurise else map(transform.featurise, samples))
    return modality, transform, perturbation, samples


def test_perturbed_samples_are_valid(case: tuple[Any, Transform, str, list[Any]]) -> None:
    modality, transform, perturbation, samples = case
    for level in modality.perturbations[perturbation]:
        perturbed = [modality.perturb(one, transform, perturbation, level, np.random.default_rng(1)) for one in samples]
        assert {type(one) for one in perturbed} == {type(one) for one in samples}
        for values in transform.collate([transform.item(one) for one in perturbed]).values():
            if values.is_floating_point():
                assert bool(values.isfinite().all())


def test_the_seed_sets_the_perturbation_and_the_sample_is_unchanged(
    case: tuple[Any, Transform, str, list[Any]],
) -> None:
    modality, transform, perturbation, samples = case
    level = modality.perturbations[perturbation][-1]
    twin = modality.toy_sample(0, np.random.default_rng(0))  # the first sample, drawn again
    first, again = (
        modality.perturb(samples[0], transform, perturbation, level, np.random.default_rng(5)) for _ in range(2)
    )
    assert np.array_equal(first, again)
    assert np.array_equal(samples[0], twin)
    assert not np.array_equal(samples[0], first)


def test_stronger_levels_change_more_and_the_weakest_changes_little(
    case: tuple[Any, Transform, str, list[Any]],
) -> None:
    modality, transform, perturbation, samples = case
    distance, levels = DISTANCES[modality.name], modality.perturbations[perturbation]
    assert len(levels) >= 2
    means = [
        np.mean([distance(one, modality.perturb(one, transform, perturbation, level, np.random.default_rng(seed)))
                 for seed, one in enumerate(samples)])
        for level in levels
    ]  # fmt: skip
    assert means == sorted(means)
    assert len(set(means)) == len(levels)
    assert 0 < means[0] < LITTLE
