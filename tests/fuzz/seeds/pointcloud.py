"""Meshes and point clouds: each format, as other programs write it, and mappings."""

from pathlib import Path
from typing import Any

import numpy as np

from modalities.pointcloud.sample import AXES, MAX_POINTS, METRES, MIN_POINTS, PointCloud
from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand, demand_array, single


def seeds(folder: Path) -> dict[str, Case]:
    """The golden files."""
    import golden_clouds as golden

    files = {f"mesh-{name}": data for name, data in golden.mesh_files().items()}
    files |= {f"cloud-{name}": data for name, data in golden.cloud_files(folder).items()}
    cases = {name: single(f"p.{name.split('-')[1]}", data) for name, data in files.items()}
    points, colours, normals = golden.cloud()
    box = golden.mesh()
    cases["mapping"] = Case(value={"points": points, "colours": colours, "normals": normals})
    cases["mapping-mesh"] = Case(value={"points": np.asarray(box.vertices), "faces": np.asarray(box.faces)})
    cases["array"] = Case(value=points)
    return cases


def check(sample: Any) -> None:
    """A `PointCloud` as its class describes it."""
    demand(isinstance(sample, PointCloud), f"a {type(sample).__name__}")
    demand_array(sample.points, np.float32, 2, "points")
    demand(sample.points.shape[1] == 3 and MIN_POINTS <= len(sample) <= MAX_POINTS, f"{sample.points.shape}")
    for values, what, most in ((sample.colours, "colours", 1.0), (sample.normals, "normals", 1.0001)):
        if values is not None:
            demand_array(values, np.float32, 2, what)
            demand(values.shape == sample.points.shape and float(np.abs(values).max()) <= most, f"{what} out of range")
    demand(sample.up in ("", *AXES) and sample.units in ("", *METRES), f"{sample.up} {sample.units}")
