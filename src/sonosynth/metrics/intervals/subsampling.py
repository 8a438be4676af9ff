"""Random parts of a set made of whole groups, class by class, and intervals from them.

A bootstrap repeats images, and a repeated image is its own nearest neighbour and counts its product with itself as
one of two images; distances and nearest-neighbour measures need parts drawn without replacement. Sets are compared
whose numbers of images per class are given, so parts of them have the proportions of the whole: otherwise chance in
these numbers would be taken for chance in the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import betaincinv, stdtrit

Interval = tuple[float, float] | None  # low and high; None where there is none
MIN_GROUPS = 5  # fewer groups than this on either side give no interval


@dataclass(frozen=True, eq=False)
class SamplingUnits:
    """N images in G groups, which are drawn whole and class by class.

    Attributes:
        number: int ``[N]``, the group of each image, 0 to G - 1.
        sizes: int ``[G]``, images of each group.
        strata: int ``[G]``, the class of each group, its label; of several the one with most images.
    """

    number: np.ndarray
    sizes: np.ndarray
    strata: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, labels: np.ndarray | None = None) -> "SamplingUnits":
        """Return the units of images with these `groups` ``[N]`` and `labels` ``[N]``; without labels, of one class."""
        _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if labels is None or not len(labels):
            return cls(number, sizes, np.zeros(len(sizes), dtype=np.int64))
        classes, place = np.unique(labels, return_inverse=True)
        counts = np.zeros((len(sizes), len(classes)), dtype=np.int64)
        np.add.at(counts, (number, place), 1)
        return cls(number, sizes, classes[counts.argmax(axis=1)])

    def __len__(self) -> int:
        return len(self.sizes)

    def part(self, images: np.ndarray) -> "SamplingUnits":
        """Return the units of some of the images, all of the groups that they are of."""
        groups, number = np.unique(self.number[images], return_inverse=True)
        return SamplingUnits(number, self.sizes[groups], self.strata[groups])

    @cached_property
    def of_classes(self) -> tuple[np.ndarray, ...]:
        """The groups of each class."""
        return tuple(np.flatnonzero(self.strata == stratum) for stratum in np.unique(self.strata))

    def shuffled(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the groups of each class in random order."""
        return [rng.permutation(groups) for groups in self.of_classes]


def split_half(units: SamplingUnits, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two sorted index arrays that share no group, each group dealt in random order to the smaller side.

    Sides are made equal in every class first, then in all.
    """
    second, ahead = np.zeros(len(units), dtype=bool), 0  # `ahead`: images that the first side has more than the second
    for order in units.shuffled(rng):
        if (units.sizes[order] == 1).all():
            begin = int(ahead <= 0)  # with an odd number, the side that is behind has one more
            second[order[begin::2]] = True
            ahead += len(order) % 2 * (1 if begin else -1)
            continue
        here = 0
        for group, size in zip(order.tolist(), units.sizes[order].tolist(), strict=True):
            second[group] = here > 0 or (here == 0 and ahead > 0)
            here += -size if second[group] else size
        ahead += here
    return np.flatnonzero(~second[units.number]), np.flatnonzero(second[units.number])


def sample_groups(units: SamplingUnits, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return sorted indices of a `share` of the images of each class: whole groups in random order.

    The last group is taken if the number then comes nearer to the share, however large it is, so that no size is
    preferred.
    """
    taken = np.zeros(len(units), dtype=bool)
    for order in units.shuffled(rng):
        ends = np.cumsum(units.sizes[order])
        taken[order[: np.abs(np.append(0, ends) - share * ends[-1]).argmin()]] = True
    return np.flatnonzero(taken[units.number])


def one_per_group(groups: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return sorted indices of one image of every group, at random among those of the class most of its images have."""
    units = SamplingUnits.of(groups, labels)
    order = rng.permutation(np.flatnonzero(labels == units.strata[units.number]))
    _, first = np.unique(units.number[order], return_index=True)
    return np.sort(order[first])


def stratified_counts(labels: np.ndarray, n_classes: int, n: int) -> np.ndarray:
    """Return how many of `n` images are of each class, ``[n_classes]``, in the proportions of `labels`.

    Rounded by largest remainders.
    """
    exact = n * np.bincount(labels, minlength=n_classes) / len(labels)
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    return counts


def min_group_count(groups: Sequence[np.ndarray]) -> int:
    """Return the smallest number of groups that one of several sets has."""
    return min(len(np.unique(one)) for one in groups)


def t_interval(estimate: float, deviation: float, n_groups: int) -> tuple[float, float]:
    """Return `estimate` plus and minus Student's t at 95 %, with ``n_groups - 1`` of freedom, times `deviation`."""
    reach = float(stdtrit(n_groups - 1, (1 + 0.95) / 2)) * deviation
    return estimate - reach, estimate + reach


def clopper_pearson(k: float, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share, of `k` among `n` independent images (Biometrika 26:404, 1934)."""
    tail = (1 - 0.95) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return low, high
