"""Uncertainty of a score over two crossed random factors: draws of the training subset, and groups of test images.

Every draw's classifiers judge the same test images, as every reader of a multi-reader multi-case study reads the same
cases. So the analysis is that of such studies: pseudo-values of the score, one a draw and test group, from leaving each
group out; variances of their two-way table; a t quantile with the degrees of freedom that belong to them.

- Pseudo-values in a two-way table: Dorfman, Berbaum and Metz, Investigative Radiology 1992;27:723-731.
- The variance that never falls below the part of the draws, and its degrees of freedom: Hillis, Statistics in Medicine
  2007;26:596-619; here the part of the test groups lowers the degrees of freedom too (Satterthwaite 1946).
- Groups left out whole, as images of one group are alike: Obuchowski, Biometrics 1997;53:567-578.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from scipy.special import expit, logit

FEWEST_DRAWS = 3  # for a statement about other draws; two have one difference between them

ROUNDING = 1e-12  # of sums that should be zero

Covers = Literal["draws and test groups", "test groups"]


@dataclass(frozen=True)
class Interval:
    """A value with the limits of its interval; the limits are NaN where nothing is known of its spread."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; False where the limits are NaN."""
        return bool(self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Jackknife:
    """A score on all test images, and with each test group left out.

    Sums, differences and multiples of several scores of one design are formed entry by entry.

    Attributes:
        whole: float ``[draws, ...]``, seeds averaged.
        left_out: float ``[groups, draws, ...]``; NaN where the rest has no score.
    """

    whole: np.ndarray
    left_out: np.ndarray

    def __post_init__(self) -> None:
        if self.left_out.shape[1:] != self.whole.shape or self.whole.ndim == 0 or 0 in self.whole.shape:
            raise ValueError(f"scores {self.whole.shape} and {self.left_out.shape} with groups left out do not fit")

    @property
    def n_draws(self) -> int:
        """How many draws of the training subset there are."""
        return len(self.whole)

    @property
    def covers(self) -> Covers:
        """What an interval of `estimate` speaks of: with fewer than three draws, these draws on other test images."""
        return "test groups" if self.n_draws < FEWEST_DRAWS else "draws and test groups"

    def __add__(self, other: "Jackknife") -> "Jackknife":
        return Jackknife(self.whole + other.whole, self.left_out + other.left_out)

    def __sub__(self, other: "Jackknife") -> "Jackknife":
        return self + -1.0 * other

    def __rmul__(self, factor: "float | np.ndarray") -> "Jackknife":
        return Jackknife(factor * self.whole, factor * self.left_out)

    def __getitem__(self, index: int) -> "Jackknife":
        """Return the score at `index` of the last axis."""
        return Jackknife(self.whole[..., index], self.left_out[..., index])

    def estimate(self) -> "Estimate":
        """Return the mean over draws with its standard error and degrees of freedom."""
        n_groups, n_draws = self.left_out.shape[:2]
        value = self.whole.mean(axis=0)
        if n_groups < 2:
            return Estimate(value, np.full(value.shape, np.nan), np.full(value.shape, np.nan), self.covers)
        table = n_groups * self.whole - (n_groups - 1) * self.left_out
        of_groups = n_draws * table.mean(axis=1).var(axis=0, ddof=1)  # mean square
        if self.covers == "test groups":
            error = np.sqrt(of_groups / (n_draws * n_groups))
            return Estimate(value, error, np.full(value.shape, n_groups - 1.0), self.covers)
        of_draws = n_groups * table.mean(axis=0).var(axis=0, ddof=1)
        rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean(axis=(0, 1))
        of_rest = (rest**2).sum(axis=(0, 1)) / ((n_draws - 1) * (n_groups - 1))
        mean_squares = np.stack([of_draws, of_groups, of_rest])
        spread, freedom = crossed_spread(mean_squares, n_draws, n_groups)
        return Estimate(value, np.sqrt(spread / (n_draws * n_groups)), freedom, self.covers)


@dataclass(frozen=True)
class Estimate:
    """Values with standard errors and degrees of freedom, arrays of one shape; NaN where they are not known."""

    value: np.ndarray
    standard_error: np.ndarray
    degrees_of_freedom: np.ndarray
    covers: Covers

    def margin(self, level: float = 0.95) -> np.ndarray:
        """Return half the width of the `level` interval."""
        quantile = stats.t.ppf((1 + level) / 2, self.degrees_of_freedom)
        return np.asarray(quantile * self.standard_error)

    def interval(self, level: float = 0.95) -> Interval:
        """Return the t interval of a single value."""
        value, margin = self._single(level)
        return Interval(value, value - margin, value + margin)

    def share_interval(self, level: float = 0.95) -> Interval:
        """Return the interval of a single score that lies between 0 and 1: a t interval of its logit.

        On few test groups the distribution of an F1 leans away from the nearer end, and so must its interval. Where
        every classifier scores 0, or every one 1, the spread is unknown and the limits are NaN.
        """
        value, margin = self._single(level)
        if not 0 < value < 1:
            return Interval(value, np.nan, np.nan)
        low, high = expit(logit(value) + np.array([-1, 1]) * margin / (value * (1 - value)))
        return Interval(value, float(low), float(high))

    def _single(self, level: float) -> tuple[float, float]:
        if self.value.ndim:
            raise ValueError(f"an interval is of one value, not of {self.value.shape}; take one score of the jackknife")
        return float(self.value), float(self.margin(level))

    def p_value(self) -> np.ndarray:
        """Return two-sided p-values of the value being zero; below ``1 - level`` just where `interval` excludes it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(np.abs(self.value) <= ROUNDING, 0, np.abs(self.value) / self.standard_error)
        return np.asarray(2 * stats.t.sf(t, self.degrees_of_freedom))


def crossed_spread(mean_squares: np.ndarray, n_draws: int, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the spread of a mean over draws and groups, and its degrees of freedom; both ``[...]``.

    Args:
        mean_squares: ``[3, ...]``, of draws, of groups and of the rest in the two-way table.
        n_draws: rows of the table, three or more.
        n_groups: columns of the table, two or more.

    Returns:
        ``draws * groups`` times the variance of the mean; degrees of freedom.
    """
    of_draws, of_groups, of_rest = mean_squares
    excess = np.where(np.isnan(of_rest), np.nan, np.maximum(of_groups - of_rest, 0))
    of_excess = np.where(excess > 0, (of_groups**2 + of_rest**2 / (n_draws - 1)) / (n_groups - 1), 0)
    spread = of_draws + excess
    uncertain = of_draws**2 / (n_draws - 1) + of_excess
    freedom = np.divide(spread**2, uncertain, out=np.full(spread.shape, n_draws - 1.0), where=uncertain != 0)
    # Draws that happen to lie closer together than noise allows leave hardly any freedom, and no interval to speak of.
    return spread, np.maximum(freedom, n_draws - 1.0)


def jackknife(score: Callable[[np.ndarray], np.ndarray], groups: np.ndarray) -> Jackknife:
    """Return any score of the test images with each test group left out.

    The score should change smoothly with single images, as means, F1, AUC and the Brier score do; a median or a largest
    value does not.

    Args:
        score: takes the numbers of the images that stay, int ``[m]`` ascending, and returns float ``[draws]`` or
            ``[draws, ...]``, seeds averaged.
        groups: int ``[n_test]``; images of one group are left out together.
    """
    groups = np.asarray(groups)
    whole = np.asarray(score(np.arange(len(groups))), dtype=np.float64)
    left_out = [np.asarray(score(np.flatnonzero(groups != group)), dtype=np.float64) for group in np.unique(groups)]
    return Jackknife(whole, np.stack(left_out))
