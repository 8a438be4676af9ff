"""A test for single pairs of classifiers, and one for many comparisons at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_FEW = 25  # groups on which two classifiers differ; below, the exact test


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same test images.

    Attributes:
        difference: share of images b has right minus that of a.
        only_a: images that a alone has right.
        only_b: images that b alone has right.
        groups: groups on which their numbers of right images differ; the others do not enter.
        statistic: chi-square with one degree of freedom.
        exact: whether `p_value` is from the exact test, which stands in with fewer than 25 such groups.
        p_value: two-sided.
    """

    difference: float
    only_a: int
    only_b: int
    groups: int
    statistic: float
    exact: bool
    p_value: float


def clustered_mcnemar(
    labels: np.ndarray, groups: np.ndarray, predictions_a: np.ndarray, predictions_b: np.ndarray
) -> McNemar:
    """Test whether two classifiers, as they are, have equal shares of right test images.

    With ``d`` the images of a group that b alone has right minus those that a alone has right, the statistic is
    ``(sum d)² / sum d²`` (Yang, Sun and Hardin 2010, doi 10.1002/bimj.201000035, after Obuchowski, Statistics in
    Medicine 1998;17:1495-1507); with groups of one image it is McNemar's. The exact test gives every ``d`` its sign by
    a coin. Both speak of these two networks alone: whether an arm is better, with other training images and seeds, is
    the question of `f1_difference`.

    Args:
        labels: int ``[n_test]``.
        groups: int ``[n_test]``.
        predictions_a: int ``[n_test]``, of one network.
        predictions_b: int ``[n_test]``, of the other.

    Raises:
        ValueError: shapes differ: several runs are not one classifier.
    """
    labels, groups, a, b = (np.asarray(array) for array in (labels, groups, predictions_a, predictions_b))
    if labels.ndim != 1 or not labels.shape == groups.shape == a.shape == b.shape or not len(labels):
        raise ValueError(f"labels {labels.shape}, groups {groups.shape}, a {a.shape} and b {b.shape} must be [n_test]")
    change = (b == labels).astype(np.int64) - (a == labels)
    _, members = np.unique(groups, return_inverse=True)
    by_group = np.bincount(members, weights=change).astype(np.int64)
    by_group = by_group[by_group != 0]
    squares = int((by_group**2).sum())
    statistic = float(by_group.sum()) ** 2 / squares if squares else 0.0
    exact = len(by_group) < _FEW
    p_value = _sign_test(by_group) if exact else float(stats.chi2.sf(statistic, 1))
    return McNemar(
        float(change.mean()), int((change < 0).sum()), int((change > 0).sum()), len(by_group), statistic, exact, p_value
    )


def _sign_test(differences: np.ndarray) -> float:
    """Return the chance of a sum at least as far from zero, if every sign falls by a coin."""
    sizes = np.abs(differences)
    chance = np.ones(1)  # of a sum of 2 · index - total
    for size in sizes:
        chance = np.convolve(chance, np.concatenate([[0.5], np.zeros(size - 1), [0.5]]))
    sums = 2 * np.arange(len(chance)) - sizes.sum()
    return float(min(1, chance[np.abs(sums) >= abs(differences.sum())].sum()))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for their number, in the order given (Holm 1979).

    The chance of any false rejection in the family stays at the level, whatever the tests have in common.

    Raises:
        ValueError: a p-value is not in 0 to 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must be numbers from 0 to 1 (found {list(p_values)})")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return tuple(float(value) for value in adjusted)
