"""Kernel distances between two sets of features, polynomial (KID) and Gaussian (CMMD): unbiased, on the full sets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, SamplingUnits, min_group_count, t_interval
from sonosynth.metrics.metric import Interval, Metric, Value

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
    return _discrepancy(c, _polynomial(c.space))


def cmmd(x: np.ndarray, y: np.ndarray) -> float:
    """Return 1000 times the unbiased squared discrepancy between `x` ``[N, D]`` and `y` ``[M, D]``: `gaussian_kernel`.

    CMMD's published code sums all pairs, an image with itself too, which biases its value upwards at small N; this is
    the U-statistic instead, as for `kernel_distance`. Single values may be negative.
    """
    c = Comparison.of_features(x, y)
    return _discrepancy(c, _gaussian(c.space))


def snapshot_distance(data: ImageSet, features: str = SNAPSHOT_FEATURES) -> Callable[[np.ndarray], float]:
    """Return the distance by which snapshots of a generator are chosen: from images to the training images `data`.

    The function that is returned takes uint8 images ``[N, H, W]`` and gives their kernel distance to `data`, which is
    embedded once. No held-out image takes part, so a choice by this distance leaks nothing into a later score.
    """
    from sonosynth.features.extract import embed  # imports torch, which declarations of metrics must not need

    reference = embed(data, features)
    return lambda images: kernel_distance(reference, embed(images, features))


def kernel_distance_of(c: Comparison, kernel: np.ndarray) -> Value:
    """Return the unbiased squared discrepancy by `kernel` ``[N, N]``, of all images, over pairs of different groups.

    Images of one group are alike. Pairs of them would be counted within a set and not between the sets, so that even
    images of the same distribution would seem apart. There is no value where all images of a set are of one group.
    """
    if min_group_count(c.groups) < 2:
        return Value(None, "all images of a set are of one group; a kernel distance needs two")
    return Value(_discrepancy(c, kernel))


def kernel_interval(c: Comparison, kernel: np.ndarray, value: float) -> Interval:
    """Return the interval around `value`, the `kernel_distance_of` a comparison; None below `MIN_GROUPS` groups.

    `value` plus and minus Student's t times the standard error. Its square has a part of first order, from what single
    groups add to the distance, and a part of second order, from pairs of groups, which alone is left where the
    distributions are equal. A jackknife over groups counts the second part twice (Efron and Stein, Annals of Statistics
    9:586, 1981), so it is taken off once. Numbers of images per class are taken as given.
    """
    n_groups = min_group_count(c.groups)
    if n_groups < MIN_GROUPS:
        return None
    (xx, yy, xy), (x, y) = c.blocks(kernel), map(_Weights.of, c.units)
    within, between = [x.within(xx), y.within(yy)], x.member @ xy @ y.member.T
    jackknife = x.variance(within[0].sum(axis=1) - between.sum(axis=1))
    jackknife += y.variance(within[1].sum(axis=1) - between.sum(axis=0))
    pairs = 2 * x.squares(within[0], x) + 2 * y.squares(within[1], y) + 4 * x.squares(between, y)
    return t_interval(value, float(np.sqrt(max(4 * jackknife - pairs, pairs))), n_groups)


@dataclass(frozen=True, eq=False)
class _Weights:
    """The shares of groups of images in a mean over a set, and variances of sums over groups."""

    member: np.ndarray  # [G, N]: one over the number of images, for each image of a group
    strata: np.ndarray  # [G], the class of each group; those that are alone in theirs are taken together
    pairs: float  # share of the pairs of images that are of two groups

    @classmethod
    def of(cls, units: SamplingUnits) -> "_Weights":
        n, alone = len(units.number), np.bincount(units.strata)[units.strata] == 1
        member = (np.arange(len(units))[:, None] == units.number) / n
        return cls(member, np.where(alone, -1, units.strata), 1 - float((units.sizes**2).sum()) / n**2)

    @property
    def correction(self) -> float:
        """What makes a mean square about the means of classes unbiased."""
        return len(self.strata) / max(len(self.strata) - len(np.unique(self.strata)), 1)

    def within(self, kernel: np.ndarray) -> np.ndarray:
        """Return the part of each pair of groups in the mean over such pairs, less the mean, ``[G, G]``."""
        parts = np.asarray(self.member @ kernel @ self.member.T)
        np.fill_diagonal(parts, 0)
        sizes = self.member.sum(axis=1)
        parts -= parts.sum() / self.pairs * np.outer(sizes, sizes)
        np.fill_diagonal(parts, 0)
        return parts / self.pairs

    def centre(self, parts: np.ndarray) -> np.ndarray:
        """Return `parts` ``[G, ...]`` less the share of their sum over the class that a group has by its size."""
        centred, sizes = parts.copy(), self.member.sum(axis=1)
        for stratum in np.unique(self.strata):
            mine = self.strata == stratum
            centred[mine] -= np.multiply.outer(sizes[mine] / sizes[mine].sum(), parts[mine].sum(axis=0))
        return centred

    def variance(self, parts: np.ndarray) -> float:
        """Return the variance of the sum of `parts` ``[G]`` of independent groups."""
        return float((self.centre(parts) ** 2).sum()) * self.correction

    def squares(self, parts: np.ndarray, others: "_Weights") -> float:
        """Return the sum of squares of what only pairs of groups explain of their `parts`, ``[G, H]``."""
        if others is self:  # a group makes no pair with itself: there the mean of its others stands
            same = self.strata[:, None] == self.strata
            np.fill_diagonal(parts := parts.copy(), (parts * same).sum(axis=1) / np.maximum(same.sum(axis=1) - 1, 1))
        centred = others.centre(self.centre(parts).T)
        if others is self:
            np.fill_diagonal(centred, 0)
        return float((centred**2).sum()) * self.correction * others.correction


def _discrepancy(c: Comparison, kernel: np.ndarray) -> float:
    """Return the means of `kernel` over pairs of different groups within the sets, less twice that between the sets."""
    *within, between = c.blocks(kernel)
    total = -2 * float(between.mean())
    for groups, block in zip(c.groups, within, strict=True):
        apart = groups[:, None] != groups
        total += float((block * apart).sum() / apart.sum())
    return total


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
        value=lambda c: kernel_distance_of(c, c.space.shared(kernel_of)),
        interval=lambda c, value: kernel_interval(c, c.space.shared(kernel_of), value),
        interval_method="parts of first and second order, groups as units",
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
        "is the KID. Pairs of images of one group are left out. Unbiased at any number of images, about 0 for equal "
        "distributions, so single values may be negative.",
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
