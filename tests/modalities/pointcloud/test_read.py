"""Every listed format, read from a file that another program wrote."""

import io
import zipfile
from pathlib import Path

import golden_clouds as golden
import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from mmalign.errors import BadSample
from modalities.pointcloud.read import read_pointcloud
from modalities.pointcloud.sample import MAX_POINTS, SURFACE_POINTS, PointCloud
from modalities.pointcloud.surface import sample_surface, smallest_hashes

MESHES = golden.mesh_files()
CLOUDS = ("ply-ascii", "ply-little", "ply-big", "las", "laz", "xyz-normals", "xyz-colours", "npy", "npz", "h5", "obj")
WITH_NORMALS = {"ply-ascii", "ply-little", "ply-big", "xyz-normals", "npy", "npz"}
WITH_COLOURS = {"ply-ascii", "ply-little", "ply-big", "las", "laz", "xyz-colours", "npz", "obj"}


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return golden.cloud_files(tmp_path_factory.mktemp("clouds"))


@pytest.mark.parametrize("kind", sorted(MESHES))
def test_a_mesh_is_sampled_on_its_surface(kind: str) -> None:
    cloud = read_pointcloud(MESHES[kind])
    assert cloud.points.shape == (SURFACE_POINTS, 3)
    assert cloud.points.dtype == np.float32
    assert cloud.normals is not None
    assert abs(cloud.points.mean(0)).max() < 1e-5
    face = np.abs(cloud.normals).argmax(1)
    np.testing.assert_allclose(np.bincount(face) / SURFACE_POINTS, [6 / 11, 3 / 11, 2 / 11], atol=1e-3)
    sides = np.array([1, 2, 3])
    centred = cloud.points - (cloud.points.max(0) + cloud.points.min(0)) / 2
    on = centred[np.arange(SURFACE_POINTS), face] * np.sign(cloud.normals[np.arange(SURFACE_POINTS), face])
    np.testing.assert_allclose(on, sides[face] / 2, atol=2e-3)  # outward, and on the side that it names
    assert (cloud.up, cloud.units) == (("y", "m") if kind in ("glb", "gltf") else ("", ""))


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_cloud_keeps_its_points_colours_and_normals(kind: str, clouds: dict[str, bytes]) -> None:
    points, colours, normals = golden.cloud()
    cloud = read_pointcloud(clouds[kind])
    np.testing.assert_allclose(cloud.points, points - points.mean(0), atol=1e-3 if kind in ("las", "laz") else 1e-5)
    assert (cloud.colours is not None) == (kind in WITH_COLOURS)
    assert (cloud.normals is not None) == (kind in WITH_NORMALS)
    if cloud.colours is not None:
        np.testing.assert_allclose(cloud.colours, colours / 255, atol=1e-6)
    if cloud.normals is not None:
        np.testing.assert_allclose(cloud.normals, normals, atol=1e-5)
    assert cloud.up == ("z" if kind in ("las", "laz") else "")


def test_paths_arrays_tensors_and_samples_are_read_alike(tmp_path: Path, clouds: dict[str, bytes]) -> None:
    torch = pytest.importorskip("torch")
    points, _, _ = golden.cloud()
    (tmp_path / "cloud.h5").write_bytes(clouds["h5"])
    expected = read_pointcloud(points.astype(np.float32))
    assert read_pointcloud(str(tmp_path / "cloud.h5")) == expected
    assert read_pointcloud(torch.from_numpy(points.astype(np.float32))) == expected
    assert read_pointcloud({"points": points.astype(np.float32)}) == expected
    assert read_pointcloud(expected) is expected
    assert expected != PointCloud(expected.points, up="z")


@pytest.mark.parametrize(
    "header", ["OFF\n8 12 18", "OFF8 12 18", "OFF 8 12 18", "OFF\n# note\n\n8 12 18", "OFF\r\n8 12 18"]
)
def test_off_headers_of_modelnet(header: str) -> None:
    rest = MESHES["off"].split(b"\n", 2)[2]
    assert read_pointcloud(header.encode() + b"\n" + rest) == read_pointcloud(MESHES["off"])


def test_a_scene_is_placed_and_coloured() -> None:
    scene = trimesh.Scene()
    box = trimesh.creation.box((1, 1, 1))
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[255, 0, 0, 255])
    box.visual = trimesh.visual.TextureVisuals(material=material)
    scene.add_geometry(box, transform=np.diag([2.0, 2, 2, 1]))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([10, 0, 0]))
    cloud = read_pointcloud(scene.export(file_type="glb"))
    far = cloud.points[:, 0] > cloud.points[:, 0].min() + 5
    assert abs(far.mean() - 6 / 30) < 0.01  # a side twice as long has four times the area
    np.testing.assert_allclose(np.ptp(cloud.points[far], axis=0), 1, atol=0.02)
    np.testing.assert_allclose(np.ptp(cloud.points[~far], axis=0), 2, atol=0.02)
    assert cloud.colours is not None
    np.testing.assert_allclose(cloud.colours, np.tile([1.0, 0, 0], (SURFACE_POINTS, 1)), atol=1e-6)


def test_colours_of_vertices_are_interpolated() -> None:
    ramp = {
        "points": [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]],
        "faces": [[0, 1, 2]],
        "colours": [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]],
    }
    cloud = read_pointcloud(ramp)
    assert cloud.colours is not None
    np.testing.assert_allclose(cloud.colours[:, :2], cloud.points[:, :2] - cloud.points[:, :2].min(0), atol=0.02)


def test_utm_coordinates_keep_centimetre_precision(tmp_path: Path) -> None:
    points, _, _ = golden.cloud()
    far = points * 0.01 + [5e5, 5.8e6, 100]
    cloud = read_pointcloud(golden.cloud_las(tmp_path, "las", far, None))
    np.testing.assert_allclose(cloud.points, (points - points.mean(0)) * 0.01, atol=1e-3)
    assert cloud.colours is None  # all black = not recorded


def test_a_large_cloud_keeps_the_same_points_in_any_order() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1_000_000, 3)).astype(np.float32)
    first, again = read_pointcloud(points), read_pointcloud(points[rng.permutation(len(points))])
    assert len(first) == MAX_POINTS
    order = [np.lexsort(cloud.points.T) for cloud in (first, again)]
    np.testing.assert_array_equal(first.points[order[0]], again.points[order[1]])
    np.testing.assert_allclose(first.points.std(0), 1, atol=0.02)


def test_sampling_is_uniform_by_area() -> None:
    """Against the areas of a sphere's caps, which are proportional to their height (Archimedes)."""
    ball = trimesh.creation.icosphere(subdivisions=4)
    points, face, weights = sample_surface(ball.vertices, ball.faces, 20_000, seed=3)
    counts, _ = np.histogram(points[:, 2], bins=10, range=(-1, 1))
    np.testing.assert_allclose(counts, 2000, atol=120)
    np.testing.assert_allclose(np.einsum("nc,ncd->nd", weights, ball.vertices[ball.faces[face]]), points)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.mean(0), 1 / 3, atol=0.01)
    again, _, _ = sample_surface(ball.vertices, ball.faces, 20_000, seed=3)
    np.testing.assert_array_equal(points, again)
    assert not np.array_equal(points, sample_surface(ball.vertices, ball.faces, 20_000, seed=4)[0])


def test_the_subset_of_hashes_is_spread_evenly() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3), -1).reshape(-1, 3).astype(np.float32)
    kept = grid[smallest_hashes(grid, 1000)]
    assert len(np.unique(kept, axis=0)) == 1000
    near, _ = cKDTree(kept).query(grid)
    assert near.max() < 4.5
    assert smallest_hashes(grid, 9000).tolist() == list(range(8000))


def test_units_of_colour_are_stated_by_their_type() -> None:
    points, colours, _ = golden.cloud()
    with pytest.raises(BadSample, match=r"integers in 0..255 or floats in 0..1"):
        read_pointcloud({"points": points, "colours": colours.astype(np.float32)})
    with pytest.raises(BadSample, match=r"integers in 0..255"):
        read_pointcloud({"points": points, "colours": colours.astype(np.int32) * 257})


@pytest.mark.real
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("archive", "suffix"), [("kaykit_3d/kaykit_obj.zip", ".obj"), ("kenney_3d/kenney_glb.zip", ".glb")]
)
def test_real_meshes_are_read(archive: str, suffix: str, step: int, real_data: Path) -> None:
    """Every fourth mesh; the slow tests read all."""
    path = real_data / archive
    if not path.is_file():
        pytest.skip(f"no {path}")
    with zipfile.ZipFile(path) as files:
        names = sorted(name for name in files.namelist() if name.endswith(suffix))
        for place, name in enumerate(names[::step]):
            data = files.read(name)
            cloud = read_pointcloud(data)
            if place % (40 // step):
                continue
            loaded = trimesh.load(io.BytesIO(data), file_type=suffix[1:], process=False)
            box = np.ptp(loaded.bounds, axis=0)
            np.testing.assert_allclose(np.ptp(cloud.points, axis=0), box, atol=0.05 * box.max(), rtol=0)
