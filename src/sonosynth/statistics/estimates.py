"""Values with what is known of their spread, and the scores of classifiers that they come from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from scipy import stats
from scipy.special import expit, logit

MIN_DRAWS = 3  # for a statement about other draws; two have one difference between them

ROUNDING = 1e-12  # of sums that should be zero

Covers = Literal["draws and test groups", "test groups", "splits"]


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

    def within(self, lowest: float, highest: float) -> "Interval":
        """Return the same value with limits no farther out than what is possible; NaN stays."""
        low, high = np.clip([self.low, self.high], lowest, highest)
        return Interval(self.value, float(low), float(high))


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

    def logit_interval(self, level: float = 0.95) -> Interval:
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


class Scores(ABC):
    """A score of the classifiers of one design, and how sure it is.

    Sums, differences and multiples of several scores of one design are formed entry by entry.

    Attributes:
        whole: float ``[draws, ...]``, seeds averaged; in a design of repeated splits, a split has one draw.
        sampled: what there are several of, in words.
        unsure: why the standard error may be unknown although there are enough of these.
    """

    whole: np.ndarray
    sampled: ClassVar[str]
    unsure: ClassVar[str]

    @property
    def n_draws(self) -> int:
        """How many draws of the training subset there are."""
        return len(self.whole)

    @property
    @abstractmethod
    def covers(self) -> Covers:
        """What an interval of `estimate` speaks of."""

    @abstractmethod
    def estimate(self) -> Estimate:
        """Return the mean over draws with its standard error and degrees of freedom."""

    @abstractmethod
    def fits(self, other: "Scores") -> bool:
        """Whether `other` is of the same draws and test images, and of the same shape."""

    @abstractmethod
    def of_draws(self, places: Sequence[int]) -> Self:
        """Return the scores of the draws at `places`."""

    @abstractmethod
    def along(self, weights: np.ndarray) -> Self:
        """Return scores with one more axis, the last: these times each of `weights`, float ``[m]``."""

    @abstractmethod
    def __add__(self, other: Self) -> Self: ...

    @abstractmethod
    def __rmul__(self, factor: float) -> Self: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Self:
        """Return the score at `index` of the last axis."""

    def __sub__(self, other: Self) -> Self:
        return self + -1.0 * other
