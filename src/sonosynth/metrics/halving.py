"""Intervals of shares in nearest-neighbour measures, from two disjoint halves of the sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from sonosynth.metrics.subsampling import DRAWS, MIN_GROUPS, halves


@dataclass(frozen=True)
class Share:
    """What is known of a statistic in 0..1.

    Attributes:
        of_first: whether it is a mean over the images of the first set, and not of the second.
        divergence: whether it is one less a distance between distributions, so that it is largest where they are equal.
    """

    of_first: bool
    divergence: bool = False


def halving_intervals(
    statistics: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    shares: Mapping[str, Share],
    groups_x: np.ndarray,
    groups_y: np.ndarray,
    rng: np.random.Generator,
    level: float = 0.95,
    draws: int = DRAWS,
) -> dict[str, tuple[float, float]] | None:
    """Return intervals for the expectations of `shares` of two sets of these sizes; None below `MIN_GROUPS` groups.

    Both sets are cut, by whole groups, into two disjoint halves. The statistics of two halves are independent, so half
    their squared difference is an unbiased estimate of the variance at half the size, and a quarter of it is the
    variance at full size. No expansion of the statistic is needed, which matters here: whether an image has a neighbour
    is decided by images of both sets jointly, and the jackknife and subsamples of 80 %, right for nearly linear
    statistics, gave 1.4 to 4 times the variance.

    A `divergence` has its bound where the distributions are equal. There the deviations of two halves from the whole
    are opposite and their distances alike, so the variance is taken over all halves about their mean instead, as in
    `subsampling_interval`.

    From the variance follows how many independent images a share of that variance would come from (never more than
    the groups it is a mean over), and from that number Wilson's interval (Journal of the American Statistical
    Association 22:209, 1927) with Student's t, which stays within 0..1 and has a length also at 0 and 1.

    Args:
        statistics: from index arrays into the first and the second set, all of `shares` by name, and maybe others.
        shares: those wanted.
        groups_x: ``[N]``; images of one number stay together.
        groups_y: ``[M]``.
        rng: where the draws come from.
        level: of confidence.
        draws: number of halvings.
    """
    n_groups = len(np.unique(groups_x)), len(np.unique(groups_y))
    if min(n_groups) < MIN_GROUPS:
        return None

    def values(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        found = statistics(i, j)
        return np.array([found[name] for name in shares])

    of_halves, excesses = np.empty((draws, 2, len(shares))), np.empty(draws)
    for draw in range(draws):
        sides_x, sides_y = halves(groups_x, rng), halves(groups_y, rng)
        if min(map(len, sides_x + sides_y)) < 2:
            return None
        of_halves[draw] = [values(i, j) for i, j in zip(sides_x, sides_y, strict=True)]
        excesses[draw] = (_excess(sides_x) + _excess(sides_y)) / 2
    paired = (np.diff(of_halves, axis=1)[:, 0] ** 2 / excesses[:, None]).mean(axis=0)
    pooled = of_halves.var(axis=(0, 1), ddof=1) / (excesses / 2 - 1).mean()
    estimates = values(np.arange(len(groups_x)), np.arange(len(groups_y)))
    centres = of_halves.mean(axis=(0, 1))
    quantile = float(student.ppf((1 + level) / 2, min(n_groups) - 1))
    intervals = {}
    for s, (name, share) in enumerate(shares.items()):
        variance, most = (pooled if share.divergence else paired)[s], n_groups[0 if share.of_first else 1]
        spread = centres[s] * (1 - centres[s])
        independent = spread / variance if spread < variance * most else most
        intervals[name] = _wilson(float(estimates[s]), float(independent), quantile)
    return intervals


def _excess(sides: tuple[np.ndarray, np.ndarray]) -> float:
    """Return by how much the variance of a difference of means of the sides exceeds that of the mean over both: 4."""
    a, b = (len(side) for side in sides)
    return (a + b) * (1 / a + 1 / b)


def _wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    square = quantile**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    reach = quantile / (1 + square / n) * float(np.sqrt(share * (1 - share) / n + square / (4 * n**2)))
    return max(centre - reach, 0.0), min(centre + reach, 1.0)
