"""Features of the local surface of a shape: how curved it is at several scales, and where its normals point."""

from typing import Any

import numpy as np

from modalities.pointcloud.features.histograms import Numbers, histogram, joint_histogram

NEIGHBOURS = 16
"""Points of a patch from which a normal is estimated, the point itself included."""

SCALES = (12, 48, 192)
"""Points of the patches of `surface_family`."""

PATCHES = 256
"""Patches of each scale."""

STEEPNESS, HEIGHTS = 5, 8
"""Bins of the vertical component of a normal, and of the height."""

ORDERS = range(1, 9)
"""Orders of the Fourier series over the azimuth of the normals."""


def outward_normals(unit: Numbers, tree: Any) -> Numbers:
    """Normals estimated as the direction of least variance of each point's neighbours, `(n, 3)`.

    Each points away from the centre of the shape, which is right where the shape is star-shaped about its centre.

    Args:
        unit: Points around 0, `(n, 3)`.
        tree: Their KD-tree.
    """
    _, index = tree.query(unit, min(NEIGHBOURS, len(unit)))
    normals = _covariance_axes(unit[index])[1][:, :, 0]
    signs = np.where((normals * unit).sum(1) < 0, -1.0, 1.0)
    outward: Numbers = normals * signs[:, None]
    return outward


def surface_family(unit: Numbers, normals: Numbers, tree: Any, rng: np.random.Generator) -> Numbers:
    """Histograms over patches of three sizes: linearity, deviation from a plane, length of the mean normal.

    Linearity is the difference of the two largest eigenvalues of the covariance divided by the largest; deviation
    from a plane the smallest divided by the largest.

    Args:
        unit: Points, `(n, 3)`.
        normals: Unit normals, `(n, 3)`.
        tree: The KD-tree of the points.
        rng: Chooses the points around which patches are cut.

    Returns:
        `(24 * len(SCALES),)`.
    """
    centres = rng.choice(len(unit), min(PATCHES, len(unit)), replace=False)
    _, index = tree.query(unit[centres], min(max(SCALES), len(unit)))
    measures = []
    for size in SCALES:
        low, middle, high = _covariance_axes(unit[index[:, :size]])[0].clip(min=0).T
        high = np.maximum(high, 1e-12)
        mean = np.linalg.norm(normals[index[:, :size]].mean(1), axis=1)
        measures += [
            histogram((high - middle) / high, 8, 0, 1), histogram(low / high, 8, 0, 1 / 3), histogram(mean, 8, 0, 1),
        ]  # fmt: skip
    return np.concatenate(measures)


def normal_families(centred: Numbers, normals: Numbers, height: Numbers, level: Numbers) -> dict[str, Numbers]:
    r"""Where normals point: up or down at which height, outwards or inwards, and how regularly about the up axis.

    `azimuth` are the magnitudes of Fourier coefficients of the normals' azimuth, for normals of equal steepness:
    :math:`\left|\frac1n \sum_j e^{i m \phi_j}\right|^{1/2}`, m = 1..8. A box has a large order 4, a hexagonal column 6.

    Args:
        centred: Points around their mean, `(n, 3)`.
        normals: Unit normals, `(n, 3)`.
        height: Height as a fraction of the largest extent, `(n,)`.
        level: Height as a fraction of the height of the shape, `(n,)`.

    Returns:
        The families `normal_height`, `normal_radial` and `azimuth`.
    """
    steepness = normals[:, 2]
    radius = np.hypot(centred[:, 0], centred[:, 1])
    radial = (normals[:, :2] * centred[:, :2]).sum(1) / np.maximum(radius, 1e-9)
    by_height = [joint_histogram((steepness, high), (STEEPNESS, HEIGHTS), (-1, 0), (1, 1)) for high in (level, height)]
    steepness_bin = ((steepness + 1) / 2 * STEEPNESS).astype(np.int64).clip(0, STEEPNESS - 1)
    azimuth = np.arctan2(normals[:, 1], normals[:, 0])
    magnitudes = [
        np.abs(np.bincount(steepness_bin, np.cos(order * azimuth), STEEPNESS)
               + 1j * np.bincount(steepness_bin, np.sin(order * azimuth), STEEPNESS)) / len(normals)
        for order in ORDERS
    ]  # fmt: skip
    return {
        "normal_height": np.concatenate(by_height),
        "normal_radial": joint_histogram((radial, steepness), (6, 6), (-1, -1), (1, 1)),
        "azimuth": np.sqrt(np.concatenate(magnitudes)),
    }


def _covariance_axes(patches: Numbers) -> tuple[Numbers, Numbers]:
    """Eigenvalues `(n, 3)`, ascending, and eigenvectors `(n, 3, 3)` of each patch `(n, size, 3)`."""
    centred = patches - patches.mean(1, keepdims=True)
    values, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    return values, axes
