"""Procedural solids: their meshes are what their sentences say."""

import numpy as np
import pytest
import trimesh

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from modalities.image import MODALITY as IMAGE
from modalities.pointcloud import MODALITY
from modalities.pointcloud.read import read_pointcloud
from modalities.pointcloud.solids.draw import KINDS, NUMBERS, draw_solid
from modalities.pointcloud.solids.toy import TOY_CLASSES
from modalities.pointcloud.sources.solids import SolidsSource


def source(**options: int) -> SolidsSource:
    return SolidsSource(SourceConfig(source="solids", options=options))


def body(kind: str, proportion: float) -> trimesh.Trimesh:
    known = KINDS[kind]
    return trimesh.Trimesh(*known.build(proportion, known.parts[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_triangles_are_seen_from_outside(kind: str) -> None:
    mesh = body(kind, 0.5)
    assert mesh.is_winding_consistent
    assert mesh.volume > 0.01
    assert np.isfinite(mesh.vertices).all()


def test_solids_have_the_volume_of_their_formula() -> None:
    """A torus has 2 pi^2 R r^2, a cone a third of its cylinder, a box the product of its sides."""
    thickness = 0.07 * (0.25 / 0.07) ** 0.5
    assert body("torus", 0.5).volume == pytest.approx(2 * np.pi**2 * 0.5 * thickness**2, rel=0.04)
    assert body("cone", 1.0).volume == pytest.approx(np.pi * 0.5**2 * 1.8 / 3, rel=0.02)
    assert body("box", 1.0).volume == pytest.approx(0.8 * 1.8 * 0.8)
    assert body("L-profile", 1.0).volume == pytest.approx(1.6 * (0.3 + 0.7 * 0.3))


@pytest.mark.parametrize("kind", KINDS)
def test_sentence_label_and_mesh_agree(kind: str) -> None:
    for seed in range(12):
        solid = draw_solid(kind, np.random.default_rng(seed))
        known = KINDS[kind]
        assert solid.word in solid.sentence
        assert (known.plural if solid.count > 1 else kind) in solid.sentence
        assert solid.count == 1 or NUMBERS[solid.count] in solid.sentence
        assert (f"{NUMBERS[solid.parts]} {known.part}" in solid.sentence) == bool(solid.parts)
        mesh = trimesh.Trimesh(*solid.mesh)
        bodies = mesh.body_count / {"table": solid.parts + 1, "mug": 2}.get(kind, 1)
        assert bodies == solid.count
        assert len(read_pointcloud({"points": solid.mesh[0], "faces": solid.mesh[1]})) == 8192


def test_proportion_words_agree_with_the_mesh() -> None:
    heights: dict[str, list[float]] = {"low": [], "tall": []}
    for seed in range(60):
        solid = draw_solid("cylinder", np.random.default_rng(seed))
        heights[solid.word].append(float(np.ptp(solid.mesh[0][:, 1])))
    assert max(heights["low"]) < min(heights["tall"])


def test_records_are_balanced_and_the_same_each_time() -> None:
    records = source(train=140, validation=14, test=28, seed=3).records()
    assert [record.split for record in records] == ["train"] * 140 + ["validation"] * 14 + ["test"] * 28
    for split, count in (("train", 10), ("validation", 1), ("test", 2)):
        labels = [record.labels[0] for record in records if record.split == split]
        assert {labels.count(kind) for kind in KINDS} == {count}
    again = source(train=140, validation=14, test=28, seed=3)
    assert again.records() == records
    assert again.fetch("7.npz") == source(train=140, validation=14, test=28, seed=3).fetch("7.npz")
    assert again.fetch("7.npz") != source(train=140, seed=4).fetch("7.npz")
    assert again.fingerprint() != source(train=140, seed=4).fingerprint()
    assert again.fingerprint() == source(train=140, validation=14, test=28, seed=3).fingerprint()
    stairs = next(record for record in records if record.labels == ("staircase",))
    assert NUMBERS[int(stairs.targets["parts"])] in stairs.values["text"][0]


def test_a_fetched_mesh_is_read() -> None:
    solids = source(train=14, validation=0, test=0)
    for record in solids.records():
        cloud = MODALITY.read(solids.fetch(record.values["pointcloud"][0]))
        assert cloud.normals is not None
        assert len(cloud) == 8192
        image = IMAGE.read(solids.fetch(record.values["image"][0] if "image" in record.values else f"{record.id}.png"))
        assert image.shape == (64, 64, 3)
        assert 100 < (image > 0).sum() < 0.8 * image.size
    for wrong in ("14.npz", "x", "../0.npz", "0.obj"):
        with pytest.raises(BadSample, match=r"0.npz or 0.png to 13.npz"):
            solids.fetch(wrong)


@pytest.mark.parametrize(
    "options", [{"tran": 3}, {"train": -1}, {"train": 1.5}, {"seed": True}, {"train": 0, "validation": 0, "test": 0}]
)
def test_wrong_options_are_named(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"solids|data\.options"):
        source(**options)


def test_toy_samples_are_of_ten_kinds() -> None:
    rng = np.random.default_rng(0)
    samples = [MODALITY.toy_sample(label, rng) for label in range(10)]
    assert len(set(TOY_CLASSES)) == 10
    assert all(sample.points.shape == (512, 3) for sample in samples)
    with pytest.raises(UserError, match="0..9"):
        MODALITY.toy_sample(10, rng)
