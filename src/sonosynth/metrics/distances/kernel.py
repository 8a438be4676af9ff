"""Kernel distances between two sets of features, polynomial (KID) and Gaussian (CMMD): unbiased, on the full sets."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, min_group_count, t_interval
from sonosynth.metrics.metric import Interval, Metric

SIGMA = 10.0
"""Width of the Gaussian kernel on features of unit length, and what its values are multiplied by; both are CMMD's."""
SCALE = 1000.0
SNAPSHOT_FEATURES = "efficientnet-lite0"  # five times as fast as Inception; final scores use their own features


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
    """
    c = Comparison.of_features(x, y)
    return kernel_distance_of(*c.blocks(_polynomial(c.space)))


def cmmd(x: np.ndarray, y: np.ndarray) -> float:
    """Return 1000 times the unbiased squared discrepancy between `x` ``[N, D]`` and `y` ``[M, D]``: `gaussian_kernel`.

    CMMD's published code sums all pairs, an image with itself too, which biases its value upwards at small N; this is
    the U-statistic instead, as for `kernel_distance`. Single values may be negative.
    """
    c = Comparison.of_features(x, y)
    return kernel_distance_of(*c.blocks(_gaussian(c.space)))


def snapshot_distance(data: ImageSet, features: str = SNAPSHOT_FEATURES) -> Callable[[np.ndarray], float]:
    """Return the distance by which snapshots of a generator are chosen: from images to the training images `data`.

    The function that is returned takes uint8 images ``[N, H, W]`` and gives their kernel distance to `data`, which is
    embedded once. No held-out image takes part, so a choice by this distance leaks nothing into a later score.
    """
    from sonosynth.features.extract import embed  # imports torch, which declarations of metrics must not need

    reference = embed(data, features)
    return lambda images: kernel_distance(reference, embed(images, features))


def kernel_distance_of(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> float:
    """Return the unbiased squared discrepancy from the kernel within the sets ``[N, N]`` and ``[M, M]`` and between."""
    within_x, within_y = xx.sum() - np.trace(xx), yy.sum() - np.trace(yy)
    return float(_discrepancy(within_x, within_y, xy.sum(), len(xx), len(yy)))


def kernel_interval(c: Comparison, kernel: np.ndarray) -> Interval:
    """Return the interval of the distance by `kernel` ``[N, N]``, of all images; None below `MIN_GROUPS` groups.

    The two-sample jackknife over groups: the variances from leaving out one group of either set add up. Groups of
    unequal size are weighted (Busing, Meijer, van der Leeden, "Delete-m jackknife for unequal m", Statistics and
    Computing 9:3, 1999). The interval is the estimate plus and minus Student's t times the standard error. Where the
    two distributions are nearly equal it is too wide.
    """
    n_groups = min_group_count(c.groups)
    if n_groups < MIN_GROUPS:
        return None
    (xx, yy, xy), (groups_x, groups_y) = c.blocks(kernel), c.groups
    variance = _jackknife_variance(xx, yy, xy, groups_x) + _jackknife_variance(yy, xx, xy.T, groups_y)
    return t_interval(kernel_distance_of(xx, yy, xy), float(np.sqrt(variance)), n_groups)


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


def _polynomial(space: Space) -> np.ndarray:
    return polynomial_kernel(space.gram, space.features.shape[1])


def _gaussian(space: Space) -> np.ndarray:
    return gaussian_kernel(space.gram)


def _kernel_metric(kernel_of: Callable[[Space], np.ndarray], **words: Any) -> Metric:
    """Return the metric of one kernel, whose matrix all comparisons of a space share."""
    return Metric(
        part="distances",
        direction="smaller",
        range=(None, None),
        value=lambda c: kernel_distance_of(*c.blocks(c.space.shared(kernel_of))),
        interval=lambda c, _: kernel_interval(c, c.space.shared(kernel_of)),
        interval_method="two-sample jackknife over groups",
        prepare=lambda c: c.space.shared(kernel_of),
        **words,
    )


METRICS = (
    _kernel_metric(
        _polynomial,
        name="kernel_distance",
        title="Kernel distance",
        aliases={"inception": "KID"},
        about="Squared maximum mean discrepancy of features with a cubic polynomial kernel; in Inception features this "
        "is the KID. Unbiased at any number of images, about 0 for equal distributions, so single values may be "
        "negative.",
        reference="Bińkowski et al., ICLR 2018",
        headline=True,
    ),
    _kernel_metric(
        _gaussian,
        name="cmmd",
        title="CMMD",
        about="The same with a Gaussian kernel of width 10 on features of unit length, times 1000. The published CMMD "
        "takes CLIP features, and all pairs, an image with itself too.",
        reference="Jayasumana et al., CVPR 2024",
    ),
)
