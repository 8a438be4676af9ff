"""Random parts of a set made of whole groups, and intervals from them.

A bootstrap repeats images, and a repeated image is its own nearest neighbour and counts its product with itself as
one of two images; distances and nearest-neighbour measures need parts drawn without replacement.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

Interval = tuple[float, float] | None  # low and high; None where there is none
MIN_GROUPS = 5  # fewer groups than this on either side give no interval


def sample_groups(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
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


def sample_n(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return sorted indices of `count` images: whole groups in random order, the last one cut where it is too large."""
    number, sizes, order = _shuffled(groups, rng)
    place = np.empty(len(sizes), dtype=np.int64)
    place[order] = np.arange(len(sizes))
    return np.sort(np.argsort(place[number], kind="stable")[:count])


def split_half(groups: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two sorted index arrays that share no group, each group dealt in random order to the smaller side."""
    number, sizes, order = _shuffled(groups, rng)
    second, ahead = np.zeros(len(sizes), dtype=bool), 0  # `ahead`: images that the first side has more than the second
    if (sizes == 1).all():
        second[order[1::2]] = True
    else:
        for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
            second[group] = ahead > 0
            ahead += -size if ahead > 0 else size
    return np.flatnonzero(~second[number]), np.flatnonzero(second[number])


def min_group_count(groups: Sequence[np.ndarray]) -> int:
    """Return the smallest number of groups that one of several sets has."""
    return min(len(np.unique(one)) for one in groups)


def t_interval(estimate: float, deviation: float, n_groups: int) -> tuple[float, float]:
    """Return `estimate` plus and minus Student's t at 95 %, with ``n_groups - 1`` of freedom, times `deviation`."""
    reach = float(stdtrit(n_groups - 1, (1 + 0.95) / 2)) * deviation
    return estimate - reach, estimate + reach


def _shuffled(groups: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of each image's group, the groups' sizes, and the groups in random order."""
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return number, sizes, rng.permutation(len(sizes))
