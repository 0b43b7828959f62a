"""Samples and features on disk: read once, keyed by content, settings and versions; rejections are not kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign import registry
from mmalign.data.caching.cached_files import CachedFiles
from mmalign.data.caching.disk_cache import DiskCache
from mmalign.data.caching.sample_cache import nbytes
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.modality import Modality, Transform


def opened(table: Path, modality: Modality, cache: Path | None, **settings: Any) -> Dataset:
    config = DataConfig(
        "manifest",
        str(table),
        columns={"image": "file"},
        validation=0.0,
        cache=str(cache) if cache else None,
        **settings,
    )
    return Dataset.open(config, {"image": modality})


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> tuple[Modality, list[Any]]:
    """The image modality, and what it was asked to decode."""
    modality, calls = registry.load("modalities", "image"), []
    read = type(modality).read
    monkeypatch.setattr(type(modality), "read", lambda self, source: calls.append(source) or read(self, source))
    return modality, calls


class Corner(Transform):
    """The upper left corner of a picture."""

    def __init__(self, size: int) -> None:
        self.size = size

    def featurise(self, sample: Any) -> Any:
        return sample[: self.size, : self.size].copy()

    def collate(self, items: Any) -> Any:
        return {"pixels": torch.from_numpy(np.stack(items))}

    def config(self) -> dict[str, Any]:
        return {"size": self.size}


def features(data: Dataset, size: int = 8) -> list[np.ndarray]:
    return list(data.split("train").features("image", Corner(size)))


def test_a_second_run_decodes_nothing(pictures: Path, tmp_path: Path, counting: tuple[Modality, list[Any]]) -> None:
    modality, calls = counting
    first = features(opened(pictures, modality, tmp_path / "cache"))
    assert len(calls) == 40  # once each: the features are those of the samples that were scanned
    second = features(opened(pictures, modality, tmp_path / "cache"))
    assert len(calls) == 40
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(first, features(opened(pictures, modality, None)), strict=True):
        np.testing.assert_array_equal(one, two)


def test_other_settings_are_other_features(
    pictures: Path, tmp_path: Path, counting: tuple[Modality, list[Any]]
) -> None:
    modality, calls = counting
    for size in (8, 4, 8):
        made = features(opened(pictures, modality, tmp_path / "cache"), size)
        assert made[0].shape[:2] == (size, size)
    assert len(calls) == 40  # the samples were on disk


def test_changed_content_is_read_again(pictures: Path, tmp_path: Path, png: Any) -> None:
    modality = registry.load("modalities", "image")
    before = features(opened(pictures, modality, tmp_path / "cache"))
    (pictures.parent / "3.png").write_bytes(png(255))
    after = features(opened(pictures, modality, tmp_path / "cache"))
    assert (after[3] == 255).all()
    np.testing.assert_array_equal(after[4], before[4])


def test_a_damaged_entry_is_recomputed(pictures: Path, tmp_path: Path) -> None:
    modality, cache = registry.load("modalities", "image"), tmp_path / "cache"
    before = features(opened(pictures, modality, cache))
    store = DiskCache(cache)
    for (key,) in store._connection().execute("SELECT key FROM samples").fetchall():
        store.put(key, b"damaged")
    after = features(opened(pictures, modality, cache))
    np.testing.assert_array_equal(before[7], after[7])


def test_rejected_files_are_rejected_again(pictures: Path, tmp_path: Path) -> None:
    (pictures.parent / "5.png").write_bytes(b"no picture")
    modality = registry.load("modalities", "image")
    for _ in range(2):
        data = opened(pictures, modality, tmp_path / "cache", max_rejected=0.5)
        assert [rejected.file for rejected in data.rejected] == ["5.png"]


def test_other_versions_are_other_keys(tmp_path: Path, png: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    modality, cache = registry.load("modalities", "image"), DiskCache(tmp_path)
    key = CachedFiles(modality, cache).key(png(1))
    assert key == CachedFiles(modality, cache).key(png(1)) != CachedFiles(modality, cache).key(png(2))
    monkeypatch.setattr("mmalign.data.caching.cached_files.version", lambda name: "9" if name == "pillow" else "1")
    assert CachedFiles(modality, cache).key(png(1)) != key
    monkeypatch.undo()
    monkeypatch.setattr("mmalign.data.caching.cached_files.CACHE_FORMAT", -1)
    assert CachedFiles(modality, cache).key(png(1)) != key


def test_sidecar_files_are_part_of_the_key(tmp_path: Path) -> None:
    echo = registry.load("modalities", "echo")
    clip, beside = tmp_path / "a.npy", tmp_path / "a.json"
    np.save(clip, np.zeros((4, 16, 16), np.uint8))
    keys = []
    for rate in (30, 60):
        beside.write_text(f'{{"rate": {rate}}}')
        keys.append(CachedFiles(echo, DiskCache(tmp_path)).key(clip))
    assert keys[0] != keys[1]


def test_a_strict_reader_has_its_own_keys(tmp_path: Path) -> None:
    echo = registry.load("modalities", "echo")
    keys = [CachedFiles(one, DiskCache(tmp_path)).key(b"clip") for one in (echo, echo.with_strict_reading())]
    assert keys[0] != keys[1]


def test_values_that_are_no_files_are_not_cached(tmp_path: Path) -> None:
    files = CachedFiles(registry.load("modalities", "image"), DiskCache(tmp_path))
    assert files.key(np.zeros((4, 4, 3), np.uint8)) is None
    assert files.key(tmp_path / "missing.png") is None


@pytest.mark.parametrize("limit", [0.0, 1e-5, 1.0])
def test_memory_stays_within_its_limit_and_features_replace_samples(pictures: Path, limit: float) -> None:
    modality = registry.load("modalities", "image")
    data = opened(pictures, modality, None, cache_gb=limit)
    made = features(data, 4)
    assert len(made) == 40
    store = data.store
    kept: Mapping[Any, Any] = store._features["image"][1]
    assert store.used_bytes <= limit * 1e9
    assert store.used_bytes == sum(nbytes(one) + 200 for one in [*store._cache.values(), *kept.values()])
    assert not {index for index, _, _ in kept} & {index for index, _, _ in store._cache}
    assert len(kept) == (40 if limit == 1.0 else len(kept))


def test_the_real_types_of_every_modality_come_back(tmp_path: Path) -> None:
    """Each modality that declares itself cached: its samples and features survive the disk."""
    rng, tried = np.random.default_rng(0), []
    for name in registry.names("modalities"):
        modality = registry.load("modalities", name)
        if not hasattr(modality, "cached_types"):
            continue
        files = CachedFiles(modality, DiskCache(tmp_path))
        sample, transform = modality.toy_sample(3, rng), modality.transform(next(iter(modality.encoders)), {})
        made = transform.featurise(sample)
        files.keep_sample(name, sample)
        files.keep_features(name, transform, made)
        equal(files.sample(name), sample)
        equal(files.features(name, transform), made)
        tried.append(name)
    assert {"image", "pointcloud", "echo"} <= set(tried)


def equal(one: Any, two: Any) -> None:
    assert type(one) is type(two)
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, two)
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            equal(one[key], two[key])
    else:
        assert one == two
