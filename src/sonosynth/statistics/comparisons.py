"""Two arms compared: a paired difference of scores, a test of two single networks, and Holm's correction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from sonosynth.statistics.scores import MIN_DRAWS, ROUNDING, Covers, Interval, Scores

_WIDEST = 2.0**10  # relative differences beyond are not told from unbounded ones
_FEW = 25  # groups on which two classifiers differ; below, the exact test


@dataclass(frozen=True)
class Difference:
    """Score b minus score a of the same draws and test images."""

    absolute: Interval  # b minus a, its limits within ±1
    # that difference divided by a; None where a is not clearly above zero. It is the set of ratios that the data do not
    # contradict (Fieller 1954), from −1 upwards, so it excludes zero where `absolute` does
    relative: Interval | None
    by_draw: tuple[float, ...]  # b minus a in each draw, seeds averaged
    # mean over standard deviation of `by_draw` (Cohen's d_z), times 1 - 3 / (4 draws - 5) (Hedges 1981); None with
    # fewer than three draws or where they do not differ. It counts how many spreads between draws the difference is, on
    # this test set: it grows with the seeds averaged, says nothing of the test set's share of chance, and with five
    # draws is itself known to about ±1. Report it beside, never instead of, the absolute difference, and do not compare
    # it between designs
    standardised: float | None
    p_value: float | None  # two-sided, of no difference; None where `no_p_value_reason` says why
    no_p_value_reason: str  # the reason, or an empty string
    covers: Covers  # what the intervals speak of


def score_difference(a: Scores, b: Scores) -> Difference:
    """Return b minus the baseline a, scores ``[draws]`` from 0 to 1 of one design.

    The p-value takes draws and test groups for samples of larger populations. Draws of one pool overlap, the more the
    larger the subset; what it says of is other draws of this pool. Over repeated splits it is that of the corrected
    resampled t test (Nadeau and Bengio 2003).
    """
    if not a.pairs_with(b) or a.whole.ndim != 1:
        raise ValueError(f"scores {a.whole.shape} and {b.whole.shape} are no pairs [draws] on the same test images")
    difference = b - a
    estimate, by_draw = difference.estimate(), difference.whole
    standardised, reason = None, ""
    if len(by_draw) < MIN_DRAWS:
        noun, _, rest = difference.sampling_unit.partition(" ")
        number = f"one {noun}" if len(by_draw) == 1 else f"two {noun}s"
        reason = f"{number} {rest}: a description, not a test; three are needed"
    elif np.isnan(estimate.standard_error):
        reason = difference.unknown_spread
    if len(by_draw) >= MIN_DRAWS and (spread := by_draw.std(ddof=1)) > ROUNDING:
        standardised = float(by_draw.mean() / spread * (1 - 3 / (4 * len(by_draw) - 5)))
    return Difference(
        absolute=estimate.interval().within(-1.0, 1.0),
        relative=_relative(a, b),
        by_draw=tuple(by_draw.tolist()),
        standardised=standardised,
        p_value=None if reason else float(estimate.p_value()),
        no_p_value_reason=reason,
        covers=difference.covers,
    )


def _relative(a: Scores, b: Scores) -> Interval | None:
    """Return all r for which ``b - (1 + r) a`` could be zero, in one piece around ``b / a - 1``; None if unbounded."""
    base = float(a.whole.mean())
    if base <= 0:
        return None
    value = float(b.whole.mean()) / base - 1

    def contradiction(r: float) -> float:
        estimate = (b - a * (1 + r)).estimate()
        return float(np.abs(estimate.value) - estimate.margin)

    excess = contradiction(value)
    if np.isnan(excess):
        return Interval(value, np.nan, np.nan)
    if excess >= 0:  # no margin at all
        return Interval(value, value, value)
    limits = [_edge(contradiction, value, sign) for sign in (-1, 1)]
    return None if None in limits else Interval(value, *limits).within(-1.0, np.inf)  # type: ignore[arg-type]


def _edge(contradiction: Callable[[float], float], value: float, sign: int) -> float | None:
    inside, step = value, 2.0**-7
    while step < _WIDEST:
        outside = value + sign * step
        excess = contradiction(outside)
        if excess > 0:
            from scipy.optimize import brentq

            return float(brentq(contradiction, inside, outside, xtol=1e-9))
        if not np.isnan(excess):  # nothing is known at -1 where b is the same in every split
            inside = outside
        step *= 2
    return None


@dataclass(frozen=True)
class McNemar:
    """Two classifiers on the same test images."""

    difference: float  # share of images b has right minus that of a
    only_a: int  # images that a alone has right
    only_b: int  # images that b alone has right
    groups: int  # groups on which their numbers of right images differ; the others do not enter
    statistic: float  # chi-square with one degree of freedom
    exact: bool  # whether `p_value` is from the exact test, which stands in with fewer than 25 such groups
    p_value: float  # two-sided


def clustered_mcnemar(
    labels: np.ndarray, groups: np.ndarray, predictions_a: np.ndarray, predictions_b: np.ndarray
) -> McNemar:
    """Test whether two classifiers, as they are, have equal shares of right test images.

    With ``d`` the images of a group that b alone has right minus those that a alone has right, the statistic is
    ``(sum d)² / sum d²`` (Yang, Sun and Hardin 2010, doi 10.1002/bimj.201000035, after Obuchowski, Statistics in
    Medicine 1998;17:1495-1507); with groups of one image it is McNemar's. The exact test gives every ``d`` its sign by
    a coin. Both speak of these two networks alone: whether an arm is better, with other training images and seeds, is
    the question of `score_difference`.

    Labels, groups and predictions are int ``[n_test]``.
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
    p_value = _sign_test(by_group) if exact else float(chdtrc(1, statistic))
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
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values must be numbers from 0 to 1 (found {list(p_values)})")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return tuple(float(value) for value in adjusted)
