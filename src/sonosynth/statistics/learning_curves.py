"""Scores against the number of real training images, and how many real images a synthetic set is equivalent to."""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from sonosynth.statistics.scores import ROUNDING, Covers, Interval, Scores

_STEPS = 64  # a gap between measured sizes is looked at in so many


@dataclass(frozen=True)
class LearningCurve:
    """A score at each size, with pointwise intervals."""

    sizes: tuple[float, ...]  # numbers of real training images, ascending
    points: tuple[Interval, ...]  # mean over draws and seeds at each size, with its interval
    covers: Covers  # what the intervals speak of


@dataclass(frozen=True)
class EquivalentRealImages:
    """How many real images alone give the score that `n_real` give with synthetic ones."""

    n_real: float  # real training images of the arm with synthetic images
    # real images on the other arm's curve, within its interval; -inf is below and inf above all measured sizes: nothing
    # is extrapolated
    equivalent: Interval
    measured: tuple[float, float]  # the smallest and the largest measured size
    covers: Covers  # what the interval speaks of

    @property
    def gain(self) -> Interval:
        """`equivalent` less `n_real`: the horizontal gap between the curves, in real images."""
        return Interval(*(end - self.n_real for end in astuple(self.equivalent)))

    def __str__(self) -> str:
        def words(n: float) -> str:
            if math.isinf(n):
                return f"fewer than {self.measured[0]:g}" if n < 0 else f"more than {self.measured[1]:g}"
            return "unknown" if math.isnan(n) else f"{n:.0f}"

        value, low, high = map(words, astuple(self.equivalent))
        return f"{self.n_real:g} real images with synthetic ones equal {value} real images alone [{low}, {high}]"


def learning_curve(sizes: Sequence[float], scores: Sequence[Scores]) -> LearningCurve:
    """Return the curve of a score between 0 and 1 at ascending `sizes`."""
    _check(sizes, scores)
    points = tuple(score.estimate().logit_interval() for score in scores)
    return LearningCurve(tuple(sizes), points, scores[0].covers)


def equivalent_real_images(
    sizes: Sequence[float], without: Sequence[Scores], n_real: float, with_synthetic: Scores
) -> EquivalentRealImages:
    """Return how many real images alone score as `n_real` do with synthetic ones.

    The curve without synthetic images is straight between measured sizes in ``log2 n``. For the value it is made to
    rise first (isotonic regression) and read where it first reaches the score. The interval holds every number of real
    images whose score the data do not tell from that of the other arm: the paired t test of `score_difference` between
    the two, with the same draws and test groups, turned round (as Fieller's 1954); where the accepted numbers lie in
    pieces, from the first to the last. A limit that the measured sizes do not reach is infinite.
    """
    _check(sizes, [*without, with_synthetic][: len(sizes)])
    if len(sizes) < 2 or not with_synthetic.pairs_with(without[0]):
        raise ValueError("a gap needs two measured sizes, and scores of the same draws and test groups")
    places = np.log2(np.asarray(sizes, dtype=np.float64))
    score = float(with_synthetic.whole.mean())
    value = _first_reached(places, np.array([float(s.whole.mean()) for s in without]), score)
    # The curve minus the other arm's score, at many places from the smallest to the largest size.
    grid = np.unique(np.concatenate([np.linspace(a, b, _STEPS + 1) for a, b in itertools.pairwise(places)]))
    weights = np.stack([np.interp(grid, places, row) for row in np.eye(len(places))])  # [sizes, grid]
    curve = functools.reduce(operator.add, [s[None] * row for s, row in zip(without, weights, strict=True)])
    gap = curve - with_synthetic[None] * np.ones(len(grid))
    estimate = gap.estimate()
    contradiction = np.abs(estimate.value) - estimate.margin
    low, high = _accepted(grid, contradiction, value)
    equals = Interval(*(2.0**v if math.isfinite(v) else v for v in (value, low, high)))
    return EquivalentRealImages(n_real, equals, (sizes[0], sizes[-1]), gap.covers)


def _check(sizes: Sequence[float], scores: Sequence[Scores]) -> None:
    if not len(sizes) or len(sizes) != len(scores) or any(b <= a for a, b in itertools.pairwise(sizes)):
        raise ValueError(f"sizes {list(sizes)} must ascend, with one score each ({len(scores)} given)")
    if scores[0].whole.ndim != 1 or not all(score.pairs_with(scores[0]) for score in scores):
        found = [score.whole.shape for score in scores]
        raise ValueError(f"scores must be [draws], of the same draws and test images (found {found})")


def _first_reached(places: np.ndarray, scores: np.ndarray, score: float) -> float:
    """Return where the rising curve first reaches `score`; infinite where it does not, or starts above it."""
    from scipy.optimize import isotonic_regression

    rising = isotonic_regression(scores).x
    if score < rising[0] - ROUNDING:
        return -math.inf
    if score > rising[-1] + ROUNDING:
        return math.inf
    after = int(np.argmax(rising >= score - ROUNDING))
    if after == 0:
        return float(places[0])
    share = min(1.0, (score - rising[after - 1]) / (rising[after] - rising[after - 1]))
    return float(places[after - 1] + share * (places[after] - places[after - 1]))


def _accepted(grid: np.ndarray, contradiction: np.ndarray, value: float) -> tuple[float, float]:
    """Return the first and last place without contradiction, around `value`; infinite at the ends of the grid."""
    if np.isnan(contradiction).any():
        return math.nan, math.nan
    inside = np.flatnonzero(contradiction <= 0)
    if not len(inside):
        return value, value

    def zero(before: int) -> float:
        a, b = contradiction[before], contradiction[before + 1]
        return float(grid[before] + (grid[before + 1] - grid[before]) * a / (a - b))

    low = -math.inf if inside[0] == 0 else zero(inside[0] - 1)
    high = math.inf if inside[-1] == len(grid) - 1 else zero(inside[-1])
    return min(low, value), max(high, value)
