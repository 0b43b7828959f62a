"""Figures of a shared space: the gap between two towers, alignment, uniformity, isotropy, effective rank, hubness.

All take unit vectors, one row per item, as float64.
"""

import numpy as np

from mmalign.evaluation.metrics.weighted import Floats, Ints

BLOCK = 2**22
"""Maximum number of products in memory at once."""


def unit(vectors: Floats) -> Floats:
    """Vectors divided by their length `(…, dim)`; a vector of length 0 stays 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0))


def centred(vectors: Floats) -> Floats:
    """Unit vectors less their mean, divided by their length again, `(n, dim)`."""
    return unit(vectors - vectors.mean(axis=0))


def modality_gap(a: Floats, b: Floats) -> float:
    r"""Distance of the mean vectors of two towers, \(|\bar a - \bar b|\), from 0 to 2.

    Source: Liang et al., Mind the Gap, NeurIPS 2022, section 2.

    Args:
        a: Unit vectors `(n, dim)`.
        b: Unit vectors `(m, dim)`.

    Example:
        >>> round(modality_gap(np.eye(2), -np.eye(2)) ** 2, 12)
        2.0
    """
    return float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))


def gap_share(a: Floats, b: Floats) -> float:
    r"""Fraction of the squared differences of pairs, \(a_i - b_i\), along their first principal direction.

    That is the largest eigenvalue of the mean of \((a_i - b_i)(a_i - b_i)^T\), divided by the sum of its eigenvalues.
    1: all pairs differ along one direction; 1 / dim: in all directions alike; NaN: pairs are equal.

    Args:
        a: Unit vectors `(n, dim)`.
        b: Unit vectors of the same pairs `(n, dim)`.

    Example:
        >>> gap_share(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-1.0, 0.0], [0.0, -1.0]]))
        0.5
    """
    spectrum = np.linalg.svd(a - b, compute_uv=False) ** 2
    total = spectrum.sum()
    return float(spectrum[0] / total) if total > 0 else float("nan")


def squared_distances(a: Floats, b: Floats) -> Floats:
    r"""\(|a_i - b_i|^2\) of every pair `(n,)`.

    Their mean is the alignment loss of Wang and Isola, ICML 2020, section 4.1.

    Args:
        a: Unit vectors `(n, dim)`.
        b: Unit vectors of the same pairs `(n, dim)`.
    """
    return np.asarray(((a - b) ** 2).sum(axis=1))


def uniformity(vectors: Floats) -> float:
    r"""\(\log \operatorname{mean}_{i \ne j} e^{-2 |x_i - x_j|^2}\): from 0 (all equal) down, lower = more even.

    Source: Wang and Isola, ICML 2020, section 4.1, equation 4, with t = 2, over all pairs of different rows. NaN for
    fewer than two rows.

    Args:
        vectors: Unit vectors `(n, dim)`.

    Example:
        >>> round(uniformity(np.eye(4)), 12)
        -4.0
    """
    count = len(vectors)
    if count < 2:
        return float("nan")
    total = 0.0
    step = max(1, BLOCK // count)
    for start in range(0, count, step):
        rows = vectors[start : start + step]
        weight = np.exp(4 * (rows @ vectors.T - 1))
        weight[np.arange(len(rows)), np.arange(start, start + len(rows))] = 0
        total += float(weight.sum())
    return float(np.log(total / (count * (count - 1))))


def isotropy(vectors: Floats) -> float:
    r"""1 less the mean cosine of two different rows: \(1 - (n^2 |\bar x|^2 - n) / (n (n - 1))\).

    1: cosines are 0 on average; 0: all vectors are equal. NaN for fewer than two rows.

    Args:
        vectors: Unit vectors `(n, dim)`.

    Example:
        >>> isotropy(np.eye(4)), isotropy(np.ones((4, 1)))
        (1.0, 0.0)
    """
    count = len(vectors)
    if count < 2:
        return float("nan")
    total = vectors.sum(axis=0)
    return float(1 - (total @ total - (vectors**2).sum()) / (count * (count - 1)))


def effective_rank(vectors: Floats) -> float:
    r"""\(e^H\), with H the entropy of the eigenvalues of the mean of \(x x^T\), divided by their sum.

    From 1 (all vectors on one line) to dim (all directions alike). Source: Roy and Vetterli, EUSIPCO 2007, with
    eigenvalues in place of singular values.

    Args:
        vectors: `(n, dim)`.

    Example:
        >>> round(effective_rank(np.eye(4)), 12)
        4.0
    """
    spectrum = np.linalg.svd(vectors, compute_uv=False) ** 2
    total = spectrum.sum()
    if not total > 0:
        return float("nan")
    share = spectrum[spectrum > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def nearest_items(queries: Floats, gallery: Floats, k: int) -> Ints:
    """Indices of the k gallery items of largest cosine with each query, in no order, `(n, k)`.

    Args:
        queries: Unit vectors `(n, dim)`.
        gallery: Unit vectors `(m, dim)`.
        k: At most m.
    """
    step = max(1, BLOCK // len(gallery))
    blocks = [
        np.argpartition(-(queries[start : start + step] @ gallery.T), k - 1, axis=1)[:, :k]
        for start in range(0, len(queries), step)
    ]
    return np.concatenate(blocks).astype(np.int64)


def hubness(nearest: Ints, gallery: int) -> float:
    """Skewness of the number of queries that have a gallery item among their k nearest; 0: no hubs.

    Source: Radovanović, Nanopoulos and Ivanović, JMLR 2010, section 3. NaN where all items are equally often near.

    Args:
        nearest: Indices of the k nearest gallery items of each query, `(n, k)`.
        gallery: Number of gallery items.

    Example:
        >>> round(hubness(np.array([[0], [0], [0], [1]]), 4), 3)
        0.816
    """
    counts = np.bincount(nearest.ravel(), minlength=gallery).astype(np.float64)
    deviation = counts - counts.mean()
    spread = np.sqrt((deviation**2).mean())
    return float((deviation**3).mean() / spread**3) if spread > 0 else float("nan")
