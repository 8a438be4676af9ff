"""Random parts of a set made of whole groups, and intervals from them.

A bootstrap repeats images, and a repeated image is its own nearest neighbour and counts its product with itself as
one of two images; distances and nearest-neighbour measures need parts drawn without replacement.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import t as student

Interval = tuple[float, float] | None
"""Low and high; None where there is none."""
FRACTION = 0.8
"""Share of the images in a subsample."""
DRAWS = 100
"""Subsamples an interval is made from."""
MIN_GROUPS = 5
"""Fewer groups than this on either side give no interval."""


def whole_groups(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return sorted indices of whole groups in random order, each taken that still fits into `count` images."""
    number, sizes, order = _shuffled(groups, rng)
    taken, left = np.zeros(len(sizes), dtype=bool), count
    if (sizes == 1).all():
        taken[order[:count]] = True
    else:
        for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
            if size <= left:
                taken[group] = True
                left -= size
    return np.flatnonzero(taken[number])


def exactly(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return sorted indices of `count` images: whole groups in random order, the last one cut where it is too large."""
    number, sizes, order = _shuffled(groups, rng)
    place = np.empty(len(sizes), dtype=np.int64)
    place[order] = np.arange(len(sizes))
    return np.sort(np.argsort(place[number], kind="stable")[:count])


def halves(groups: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two sorted index arrays that share no group, each group dealt in random order to the smaller side."""
    number, sizes, order = _shuffled(groups, rng)
    second, ahead = np.zeros(len(sizes), dtype=bool), 0  # `ahead`: images that the first side has more than the second
    for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        second[group] = ahead > 0
        ahead += -size if ahead > 0 else size
    return np.flatnonzero(~second[number]), np.flatnonzero(second[number])


def subsampling_interval(
    estimate: float,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    groups_x: np.ndarray,
    groups_y: np.ndarray,
    rng: np.random.Generator,
    level: float = 0.95,
    draws: int = DRAWS,
) -> tuple[float, float] | None:
    """Return an interval for the expectation of a statistic of two sets of these sizes; None below `MIN_GROUPS` groups.

    Both sets are subsampled together without replacement, by whole groups, to b = `FRACTION` of their n images. With b
    a large part of n, subsamples overlap, and the variance at n is b / (n - b) times the variance over subsamples about
    their own mean (delete-d jackknife: Shao and Wu, Annals of Statistics 17:1176, 1989; for small b this is the b / n
    of subsampling: Politis and Romano, Annals of Statistics 22:2031, 1994). The mean of the subsamples is not used: a
    distance that is biased at n is more so at b. The interval is the estimate plus and minus Student's t times the
    standard deviation, with one degree of freedom less than the smaller number of groups.

    Args:
        estimate: the statistic of the whole sets.
        statistic: from index arrays into the first and the second set.
        groups_x: ``[N]``; images of one number are drawn together.
        groups_y: ``[M]``.
        rng: where the draws come from.
        level: of confidence.
        draws: number of subsamples.
    """
    n_groups = min(len(np.unique(groups_x)), len(np.unique(groups_y)))
    if n_groups < MIN_GROUPS:
        return None
    values, factors = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        i, j = (whole_groups(groups, _part_of(len(groups)), rng) for groups in (groups_x, groups_y))
        if min(len(i), len(j)) < 2:
            return None
        values[draw] = statistic(i, j)
        factors[draw] = max(len(i) / (len(groups_x) - len(i)), len(j) / (len(groups_y) - len(j)))
    return around(estimate, float(np.sqrt(values.var(ddof=1) * factors.mean())), n_groups, level)


def around(estimate: float, deviation: float, n_groups: int, level: float) -> tuple[float, float]:
    """Return `estimate` plus and minus Student's t, for ``n_groups - 1`` degrees of freedom, times `deviation`."""
    reach = float(student.ppf((1 + level) / 2, n_groups - 1)) * deviation
    return estimate - reach, estimate + reach


def _part_of(n: int) -> int:
    return min(round(FRACTION * n), n - 1)


def _shuffled(groups: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of each image's group, the groups' sizes, and the groups in random order."""
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return number, sizes, rng.permutation(len(sizes))
