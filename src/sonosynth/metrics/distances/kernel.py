"""Kernel distances between two sets of features, polynomial (KID) and Gaussian (CMMD): unbiased, on the full sets."""

from collections.abc import Callable

import numpy as np

from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.distances.frechet import checked
from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, min_group_count, t_interval

SIGMA = 10.0
"""Width of the Gaussian kernel on features of unit length, and what its values are multiplied by; both are CMMD's."""
SCALE = 1000.0
SNAPSHOT_FEATURES = "efficientnet-lite0"
"""Five times as fast as Inception; final scores use their own features."""

Kernel = Callable[[np.ndarray, int], np.ndarray]
"""From inner products of features, and their dimension, to kernel values."""


def polynomial_kernel(gram: np.ndarray, dimension: int) -> np.ndarray:
    """Return ``(x . y / D + 1)^3`` elementwise from inner products `gram` of features of length D = `dimension`."""
    base = gram / dimension + 1.0
    return np.asarray(base * base * base)  # a power takes four times as long


def gaussian_kernel(gram: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """Return ``1000 exp(-|u - v|^2 / (2 sigma^2))`` for features scaled to unit length, from all inner products `gram`.

    CMMD takes embeddings of CLIP, which have unit length, and sigma = 10 (Jayasumana et al., "Rethinking FID: Towards a
    Better Evaluation Metric for Image Generation", CVPR 2024). Scaling the features of any other network to unit length
    puts them on the same sphere, so that one fixed width serves all and no value depends on a bandwidth that was
    estimated from the sets. On that sphere sigma = 10 is wide: the kernel is linear to one part in 100, and the
    discrepancy all but ten times the squared distance between the mean directions. What all features of an image have
    in common as a factor is not seen. Features that are all zero stay at the centre of the sphere.

    Args:
        gram: float64 ``[N, N]``, inner products of all features.
        sigma: width of the kernel.
    """
    squares = np.diag(gram)
    scale = 1 / np.sqrt(np.where(squares > 0, squares, 1.0))
    cosines = gram * scale[:, None] * scale
    lengths = np.diag(cosines)
    distances = np.maximum(lengths[:, None] + lengths - 2 * cosines, 0.0)
    return np.asarray(SCALE * np.exp(-distances / (2 * sigma**2)))


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased squared maximum mean discrepancy between `x` ``[N, D]`` and `y` ``[M, D]``.

    The U-statistic over all pairs with the cubic polynomial kernel, in float64 (Bińkowski et al., "Demystifying MMD
    GANs", ICLR 2018, section 4). It is computed once on the full sets, not as a mean over random subsets: the same
    expectation, less noise, no subset size to choose. Its expectation is zero for equal distributions at any size, so
    single values may be negative.

    Raises:
        ClassError: fewer than two rows in either set.
        ValueError: arrays that are not 2-D, differ in D, or are not finite.
    """
    return kernel_from_matrix(*_joined(x, y, polynomial_kernel))


def cmmd(x: np.ndarray, y: np.ndarray) -> float:
    """Return 1000 times the unbiased squared discrepancy between `x` ``[N, D]`` and `y` ``[M, D]``: `gaussian_kernel`.

    CMMD's published code sums all pairs, an image with itself too, which biases its value upwards at small N; this is
    the U-statistic instead, as for `kernel_distance`. Single values may be negative.

    Raises:
        ClassError: fewer than two rows in either set.
        ValueError: arrays that are not 2-D, differ in D, or are not finite.
    """
    return kernel_from_matrix(*_joined(x, y, _gaussian))


def snapshot_distance(data: ImageSet, features: str = SNAPSHOT_FEATURES) -> Callable[[np.ndarray], float]:
    """Return the distance by which snapshots of a generator are chosen: from images to the training images `data`.

    The function that is returned takes uint8 images ``[N, H, W]`` and gives their kernel distance to `data`, which is
    embedded once. No held-out image takes part, so a choice by this distance leaks nothing into a later score.

    Raises:
        FeatureError: `features` is unknown.
    """
    from sonosynth.features.extract import embed  # imports torch, which declarations of metrics must not need

    reference = embed(data, features)
    return lambda images: kernel_distance(reference, embed(images, features))


def kernel_from_matrix(kernel: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    """Return the unbiased squared discrepancy between rows `i` and rows `j` of a kernel matrix, float64 ``[N, N]``."""
    n, m = len(i), len(j)
    within_x = kernel[np.ix_(i, i)].sum() - kernel[i, i].sum()
    within_y = kernel[np.ix_(j, j)].sum() - kernel[j, j].sum()
    return float(_discrepancy(within_x, within_y, kernel[np.ix_(i, j)].sum(), n, m))


def kernel_interval(
    x: np.ndarray,
    y: np.ndarray,
    groups_x: np.ndarray | None = None,
    groups_y: np.ndarray | None = None,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the interval of the kernel distance of `x` ``[N, D]`` and `y` ``[M, D]``, or None with too few groups.

    The two-sample jackknife over groups: the variances from leaving out one group of `x` and one group of `y` add up.
    Groups of unequal size are weighted (Busing, Meijer, van der Leeden, "Delete-m jackknife for unequal m", Statistics
    and Computing 9:3, 1999). The interval is the estimate plus and minus Student's t times the standard error. Without
    groups each row is one. Where the two distributions are nearly equal the interval is too wide.

    Raises:
        ClassError: fewer than two rows in either set.
        ValueError: as `kernel_distance`.
    """
    return _interval(x, y, polynomial_kernel, groups_x, groups_y, level)


def cmmd_interval(
    x: np.ndarray,
    y: np.ndarray,
    groups_x: np.ndarray | None = None,
    groups_y: np.ndarray | None = None,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the interval of `cmmd`, as `kernel_interval` does; it raises the same."""
    return _interval(x, y, _gaussian, groups_x, groups_y, level)


def kernel_interval_from_matrix(
    kernel: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    groups_x: np.ndarray,
    groups_y: np.ndarray,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return what `kernel_interval` does, from a kernel matrix (see `kernel_from_matrix`); groups are of i and j."""
    n_groups = min_group_count((groups_x, groups_y))
    if n_groups < MIN_GROUPS:
        return None
    xx, yy, xy = kernel[np.ix_(i, i)], kernel[np.ix_(j, j)], kernel[np.ix_(i, j)]
    variance = _jackknife_variance(xx, yy, xy, groups_x) + _jackknife_variance(yy, xx, xy.T, groups_y)
    return t_interval(kernel_from_matrix(kernel, i, j), float(np.sqrt(variance)), n_groups, level)


def _jackknife_variance(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, groups: np.ndarray) -> float:
    """Return the variance that comes from the first set, from sums over its groups instead of recomputation."""
    n, m = xy.shape
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    off_diagonal = xx - np.diag(np.diag(xx))
    member = (number[:, None] == np.arange(len(sizes))).astype(np.float64)
    touching = member.T @ off_diagonal.sum(axis=1)
    inside = np.einsum("ng,ng->g", member, off_diagonal @ member)
    within_x = off_diagonal.sum() - 2 * touching + inside
    within_y = yy.sum() - np.trace(yy)
    without = _discrepancy(within_x, within_y, xy.sum() - member.T @ xy.sum(axis=1), n - sizes, m)
    whole = _discrepancy(off_diagonal.sum(), within_y, xy.sum(), n, m)
    centre = len(sizes) * whole - ((1 - sizes / n) * without).sum()
    ratio = n / sizes
    pseudo_values = ratio * whole - (ratio - 1) * without
    return float(((pseudo_values - centre) ** 2 / (ratio - 1)).mean())


def _discrepancy(
    within_x: np.ndarray, within_y: np.ndarray, between: np.ndarray, n: int | np.ndarray, m: int
) -> np.ndarray:
    return np.asarray(within_x / (n * (n - 1.0)) + within_y / (m * (m - 1.0)) - 2 * between / (n * m))


def _gaussian(gram: np.ndarray, dimension: int) -> np.ndarray:
    return gaussian_kernel(gram)


def _interval(
    x: np.ndarray,
    y: np.ndarray,
    kernel: Kernel,
    groups_x: np.ndarray | None,
    groups_y: np.ndarray | None,
    level: float,
) -> tuple[float, float] | None:
    matrix, i, j = _joined(x, y, kernel)
    groups = (i if groups_x is None else groups_x, j if groups_y is None else groups_y)
    return kernel_interval_from_matrix(matrix, i, j, *groups, level)


def _joined(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = np.concatenate(checked(x, y))
    return kernel(both @ both.T, both.shape[1]), np.arange(len(x)), np.arange(len(x), len(both))
