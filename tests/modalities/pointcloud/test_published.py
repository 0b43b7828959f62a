"""Sources of published data sets, on small copies in the layout of each release."""

import json
from pathlib import Path

import golden_clouds as golden
import h5py
import numpy as np
import pytest

from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from modalities.pointcloud import MODALITY
from modalities.pointcloud.sources.modelnet40 import ModelNet40Source
from modalities.pointcloud.sources.scanobjectnn import CLASSES, ScanObjectNNSource
from modalities.pointcloud.sources.shapenet55 import ShapeNet55Source


def clouds(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 64, 3)).astype(np.float32)


def write_h5(path: Path, labels: list[int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(golden.cloud_h5(data=clouds(len(labels), seed), label=np.array(labels, np.uint8)[:, None]))


def modelnet(folder: Path, **options: object) -> ModelNet40Source:
    return ModelNet40Source(SourceConfig(source="modelnet40", manifest=str(folder), options=options))


def scan(folder: Path, **options: object) -> ScanObjectNNSource:
    return ScanObjectNNSource(SourceConfig(source="scanobjectnn", manifest=str(folder), options=options))


def pointnet_release(folder: Path) -> Path:
    """ModelNet40 as PointNet hands it on."""
    (folder / "shape_names.txt").write_text("airplane\nflower_pot\n")
    write_h5(folder / "ply_data_train0.h5", [0, 1, 1])
    write_h5(folder / "ply_data_train1.h5", [1], seed=1)
    write_h5(folder / "ply_data_test0.h5", [0], seed=2)
    return folder


@pytest.fixture
def pointnet(tmp_path: Path) -> Path:
    return pointnet_release(tmp_path)


def test_modelnet_meshes(tmp_path: Path) -> None:
    mesh = golden.mesh_files()
    for place, (name, kind) in enumerate(
        (("airplane/train", "off"), ("airplane/test", "off-one-line"), ("flower_pot/train", "off"))
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / f"shape_000{place}.off").write_bytes(mesh[kind])
    source = modelnet(tmp_path)
    records = {record.id: record for record in source.records()}
    assert set(records) == {
        "airplane/train/shape_0000.off",
        "airplane/test/shape_0001.off",
        "flower_pot/train/shape_0002.off",
    }
    pot = records["flower_pot/train/shape_0002.off"]
    assert (pot.values["text"], pot.labels, pot.split) == (("a flower pot",), ("flower pot",), "train")
    assert records["airplane/test/shape_0001.off"].values["text"] == ("an airplane",)
    assert records["airplane/test/shape_0001.off"].split == "test"
    for record in records.values():
        assert len(MODALITY.read(source.fetch(record.values["pointcloud"][0]))) == 8192
    with pytest.raises(BadSample):
        source.fetch("../secret.off")
    before = source.fingerprint()
    (tmp_path / "airplane/train/shape_0000.off").write_bytes(mesh["off"] + b"\n")
    assert modelnet(tmp_path).fingerprint() != before


def test_modelnet_of_pointnet(pointnet: Path) -> None:
    source = modelnet(pointnet)
    records = source.records()
    assert [record.labels[0] for record in records] == [
        "airplane",
        "flower pot",
        "flower pot",
        "flower pot",
        "airplane",
    ]
    assert [record.split for record in records] == ["train"] * 4 + ["test"]
    cloud = MODALITY.read(source.fetch("ply_data_train0.h5#2"))
    expected = clouds(3)[2].astype(np.float64)
    np.testing.assert_allclose(cloud.points, expected - expected.mean(0), atol=1e-6)
    write_h5(pointnet / "other.h5", [0])
    for wrong in ("other.h5#0", "ply_data_train0.h5#3", "ply_data_train0.h5#-1", "shape_names.txt#0", "../a.h5#0"):
        with pytest.raises(BadSample):
            source.fetch(wrong)


def test_modelnet_tables_with_normals(tmp_path: Path) -> None:
    (tmp_path / "modelnet40_shape_names.txt").write_text("chair\nnight_stand\n")
    for split, names in (("train", ["chair_0001", "night_stand_0001"]), ("test", ["night_stand_0200"])):
        (tmp_path / f"modelnet40_{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            points, _, normals = golden.cloud()
            path = tmp_path / name.rpartition("_")[0] / f"{name}.txt"
            path.parent.mkdir(exist_ok=True)
            np.savetxt(path, np.hstack([points, normals]), delimiter=",", fmt="%.6f")
    source = modelnet(tmp_path)
    records = source.records()
    assert [(record.labels[0], record.split) for record in records] == [
        ("chair", "train"), ("night stand", "train"), ("night stand", "test"),
    ]  # fmt: skip
    cloud = MODALITY.read(source.fetch(records[2].values["pointcloud"][0]))
    assert cloud.normals is not None
    assert len(cloud) == golden.COUNT


def test_scanobjectnn_variants(tmp_path: Path) -> None:
    write_h5(tmp_path / "main_split/training_objectdataset_augmentedrot_scale75.h5", [4, 14, 0])
    write_h5(tmp_path / "main_split/test_objectdataset_augmentedrot_scale75.h5", [9])
    write_h5(tmp_path / "main_split_nobg/training_objectdataset.h5", [4])
    write_h5(tmp_path / "main_split_nobg/test_objectdataset.h5", [5])
    records = scan(tmp_path).records()
    assert [(record.labels[0], record.split) for record in records] == [
        ("chair", "train"), ("toilet", "train"), ("bag", "train"), ("table", "test"),
    ]  # fmt: skip
    bare = scan(tmp_path, variant="obj-only")
    assert [record.values["text"] for record in bare.records()] == [("a chair",), ("a desk",)]
    assert len(MODALITY.read(bare.fetch("main_split_nobg/test_objectdataset.h5#0"))) == 64
    with pytest.raises(UserError, match="training_objectdataset.h5"):
        scan(tmp_path, variant="obj-bg")
    with pytest.raises(UserError, match="obj-only"):
        scan(tmp_path, variant="obj-onl")
    assert len(set(CLASSES)) == 15


@pytest.mark.parametrize("lists", ["", "ShapeNet-55"])
def test_shapenet_of_ulip(tmp_path: Path, lists: str) -> None:
    for folder in ("shapenet_pc", "rendered_images/02691156-abc", *([lists] if lists else [])):
        (tmp_path / folder).mkdir(parents=True)
    np.save(tmp_path / "shapenet_pc/02691156-abc.npy", clouds(1)[0])
    np.save(tmp_path / "shapenet_pc/03001627-d-e.npy", clouds(1, 1)[0])
    taxonomy = [{"synsetId": "02691156", "name": "airplane, plane"}, {"synsetId": "03001627", "name": "chair"}]
    (tmp_path / "taxonomy.json").write_text(json.dumps(taxonomy))
    (tmp_path / lists / "train.txt").write_text("02691156-abc.npy\n")
    (tmp_path / lists / "test.txt").write_text("03001627-d-e.npy\n")
    for name in ("r_012", "r_348", "r_012_depth0001"):
        (tmp_path / f"rendered_images/02691156-abc/02691156-abc_{name}.png").write_bytes(b"png")
    source = ShapeNet55Source(SourceConfig(source="shapenet55", manifest=str(tmp_path)))
    plane, chair = source.records()
    assert plane.values == {"pointcloud": ("shapenet_pc/02691156-abc.npy",), "text": ("an airplane", "a plane")}
    assert (plane.labels, plane.split, chair.labels, chair.split) == (("airplane",), "train", ("chair",), "test")
    assert len(MODALITY.read(source.fetch(chair.values["pointcloud"][0]))) == 64
    columns = {"pointcloud": "pointcloud", "image": "image"}
    both = ShapeNet55Source(SourceConfig(source="shapenet55", manifest=str(tmp_path), columns=columns)).records()
    start = "rendered_images/02691156-abc/02691156-abc"
    assert both[0].values["image"] == (f"{start}_r_012.png", f"{start}_r_348.png")
    assert "image" not in both[1].values
    (tmp_path / lists / "test.txt").write_text("00000000-x.npy\n")
    with pytest.raises(UserError, match="expected synsets"):
        ShapeNet55Source(SourceConfig(source="shapenet55", manifest=str(tmp_path)))
    (tmp_path / "taxonomy.json").write_text("[1]")
    with pytest.raises(UserError, match="synsetId and name"):
        ShapeNet55Source(SourceConfig(source="shapenet55", manifest=str(tmp_path)))


def test_missing_or_damaged_files_are_named(tmp_path: Path, pointnet: Path) -> None:
    for source, name in ((ModelNet40Source, "modelnet40"), (ScanObjectNNSource, "scanobjectnn")):
        with pytest.raises(UserError, match=f"source '{name}' needs"):
            source(SourceConfig(source=name))
        with pytest.raises(UserError, match="got nothing"):
            source(SourceConfig(source=name, manifest=str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected ModelNet40: CLASS/train"):
        modelnet(tmp_path / "empty")
    with pytest.raises(UserError, match="no option 'variant'"):
        modelnet(pointnet, variant="x")
    write_h5(pointnet / "ply_data_train1.h5", [7])
    with pytest.raises(UserError, match=r"labels in 0..1"):
        modelnet(pointnet)
    (pointnet / "ply_data_train1.h5").write_bytes(b"no HDF5")
    with pytest.raises(UserError, match="with data and label"):
        modelnet(pointnet)
    with h5py.File(pointnet / "ply_data_train1.h5", "w") as file:
        file["data"], file["label"] = clouds(3), np.zeros(2, np.uint8)
    with pytest.raises(UserError, match="one label for each of 3"):
        modelnet(pointnet)
    write_h5(tmp_path / "elsewhere.h5", [0, 0])
    with h5py.File(pointnet / "ply_data_train1.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "data")
        file["label"] = np.zeros(2, np.uint8)
    with pytest.raises(UserError, match="in the file itself"):
        modelnet(pointnet)
