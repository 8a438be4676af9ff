"""What one arm gains over another: absolute, relative and standardised, with interval and p-value."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from sonosynth.statistics.estimates import MIN_DRAWS, ROUNDING, Covers, Interval, Scores
from sonosynth.statistics.f1 import macro_f1_jackknife

_WIDEST = 2.0**10  # relative differences beyond are not told from unbounded ones


@dataclass(frozen=True)
class Difference:
    """Score b minus score a of the same draws and test images.

    Attributes:
        absolute: b minus a, its limits within ±1.
        relative: that difference divided by a; None where a is not clearly above zero. It is the set of ratios that the
            data do not contradict (Fieller 1954), from −1 upwards, so it excludes zero where `absolute` does.
        by_draw: b minus a in each draw, seeds averaged.
        standardised: mean over standard deviation of `by_draw` (Cohen's d_z), times ``1 - 3 / (4 draws - 5)`` (Hedges
            1981); None with fewer than three draws or where they do not differ. It counts how many spreads between
            draws the difference is, on this test set: it grows with the seeds averaged, says nothing of the test set's
            share of chance, and with five draws is itself known to about ±1. Report it beside, never instead of, the
            absolute difference, and do not compare it between designs.
        p_value: two-sided, of no difference; None where `no_p_value_reason` says why.
        no_p_value_reason: the reason, or an empty string.
        covers: what the intervals speak of.
    """

    absolute: Interval
    relative: Interval | None
    by_draw: tuple[float, ...]
    standardised: float | None
    p_value: float | None
    no_p_value_reason: str
    covers: Covers


def f1_difference(
    labels: np.ndarray,
    groups: np.ndarray,
    predictions_a: np.ndarray,
    predictions_b: np.ndarray,
    n_classes: int,
    level: float = 0.95,
) -> Difference:
    """Return macro F1 of b minus that of the baseline a, paired by draw and test group.

    Args:
        labels: int ``[n_test]``.
        groups: int ``[n_test]``.
        predictions_a: int ``[draws, seeds, n_test]``, the baseline.
        predictions_b: int ``[draws, seeds, n_test]``; the same draws in the same order, any number of seeds.
        n_classes: number of classes.
        level: coverage aimed at.

    Raises:
        ValueError: shapes do not fit, or the numbers of draws differ.
    """
    if len(predictions_a) != len(predictions_b):
        raise ValueError(f"a has {len(predictions_a)} draws and b {len(predictions_b)}; pairs need equal numbers")
    a, b = (macro_f1_jackknife(labels, groups, p, n_classes) for p in (predictions_a, predictions_b))
    return score_difference(a, b, level)


def score_difference(a: Scores, b: Scores, level: float = 0.95) -> Difference:
    """Return b minus the baseline a, scores ``[draws]`` from 0 to 1 of one design.

    The p-value takes draws and test groups for samples of larger populations. Draws of one pool overlap, the more the
    larger the subset; what it says of is other draws of this pool. Over repeated splits it is that of the corrected
    resampled t test (Nadeau and Bengio 2003).

    Raises:
        ValueError: the two are not of the same draws, test images and shape ``[draws]``.
    """
    if not a.fits(b) or a.whole.ndim != 1:
        raise ValueError(f"scores {a.whole.shape} and {b.whole.shape} are no pairs [draws] on the same test images")
    difference = b - a
    estimate = difference.estimate()
    reason = _no_p_value(difference, float(estimate.standard_error))
    return Difference(
        absolute=estimate.interval(level).within(-1.0, 1.0),
        relative=_relative(a, b, level),
        by_draw=tuple(float(d) for d in difference.whole),
        standardised=_standardised(difference.whole),
        p_value=None if reason else float(estimate.p_value()),
        no_p_value_reason=reason,
        covers=difference.covers,
    )


def _no_p_value(difference: Scores, standard_error: float) -> str:
    if difference.n_draws < MIN_DRAWS:
        noun, _, rest = difference.sampled.partition(" ")
        number = f"one {noun}" if difference.n_draws == 1 else f"two {noun}s"
        return f"{number} {rest}: a description, not a test; three are needed"
    if np.isnan(standard_error):
        return difference.unsure
    return ""


def _standardised(by_draw: np.ndarray) -> float | None:
    if len(by_draw) < MIN_DRAWS or (spread := by_draw.std(ddof=1)) <= ROUNDING:
        return None
    return float(by_draw.mean() / spread * (1 - 3 / (4 * len(by_draw) - 5)))


def _relative(a: Scores, b: Scores, level: float) -> Interval | None:
    """Return all r for which ``b - (1 + r) a`` could be zero, in one piece around ``b / a - 1``; None if unbounded."""
    base = float(a.whole.mean())
    if base <= 0:
        return None
    value = float(b.whole.mean()) / base - 1

    def contradiction(r: float) -> float:
        estimate = (b - (1 + r) * a).estimate()
        return float(np.abs(estimate.value) - estimate.margin(level))

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
            return float(brentq(contradiction, inside, outside, xtol=1e-9))
        if not np.isnan(excess):  # nothing is known at -1 where b is the same in every split
            inside = outside
        step *= 2
    return None
