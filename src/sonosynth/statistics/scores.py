"""A score of classifiers with its uncertainty, in the two designs of a study: one fixed test set, or repeated splits.

**One fixed test set**, `FixedTestScores`. The score has two crossed random factors: draws of the training subset, and
groups of test images. Every draw's classifiers see the same test images, as every reader of a multi-reader multi-case
study reads the same cases, and the analysis is that of such studies: pseudo-values of the score, one per draw and test
group, from leaving each group out; variances of their two-way table; a t quantile with the degrees of freedom that
belong to them.

- Pseudo-values in a two-way table: Dorfman, Berbaum and Metz, Investigative Radiology 1992;27:723-731.
- The variance that never falls below the part of the draws, and its degrees of freedom: Hillis, Statistics in Medicine
  2007;26:596-619; here the part of the test groups lowers the degrees of freedom too (Satterthwaite 1946).
- Groups left out whole, as images of one group are alike: Obuchowski, Biometrics 1997;53:567-578.

The chance of training is part of what differs between draws. With fewer than three draws nothing is said of others;
then seeds take their place in the same formula, and an interval speaks of other seeds and other test groups.

**Repeated splits**, `RepeatedSplitScores`: random splits of one data set, each with test images of its own. Test and
training parts of such splits overlap, so their scores vary too little. The variance of the mean takes
``1 / R + n_test / n_train`` instead of ``1 / R`` (Nadeau and Bengio, Machine Learning 2003;52:239-281). The correction
belongs to this design alone: on one fixed test set the test images never change, and it knows nothing of what others
would bring.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit

LEVEL = 0.95  # of confidence, of all intervals and tests
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

    @property
    def margin(self) -> np.ndarray:
        """Half the width of the interval."""
        return np.asarray(stdtrit(self.degrees_of_freedom, (1 + LEVEL) / 2) * self.standard_error)

    def interval(self) -> Interval:
        """Return the t interval of a single value."""
        if self.value.ndim:
            raise ValueError(f"an interval is of one value, not of {self.value.shape}; take one of the scores")
        value, margin = float(self.value), float(self.margin)
        return Interval(value, value - margin, value + margin)

    def logit_interval(self) -> Interval:
        """Return the interval of a single score that lies between 0 and 1: a t interval of its logit.

        On few test groups the distribution of an F1 leans away from the nearer end, and so must its interval. Where
        every classifier scores 0, or every one 1, the spread is unknown and the limits are NaN.
        """
        value, margin = self.interval().value, float(self.margin)
        if not 0 < value < 1:
            return Interval(value, np.nan, np.nan)
        low, high = expit(logit(value) + np.array([-1, 1]) * margin / (value * (1 - value)))
        return Interval(value, float(low), float(high))

    def p_value(self) -> np.ndarray:
        """Return two-sided p-values of the value being zero; below ``1 - LEVEL`` just where `interval` excludes it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(np.abs(self.value) <= ROUNDING, 0, np.abs(self.value) / self.standard_error)
        return np.asarray(2 * stdtr(self.degrees_of_freedom, -t))


class Scores(ABC):
    """A score of the classifiers of one design, and how sure it is.

    Sums, differences and multiples of several scores of one design are formed entry by entry. ``scores[i]`` is the
    score at `i` of the last axis, and ``scores[None]`` has one more axis.

    Attributes:
        whole: float ``[draws, ...]``, seeds averaged; in a design of repeated splits, a split has one draw.
        sampling_unit: what there are several of, in words.
        unknown_spread: why the standard error may be unknown although there are enough of these.
    """

    whole: np.ndarray
    sampling_unit: ClassVar[str]
    unknown_spread: ClassVar[str]

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
    def pairs_with(self, other: "Scores") -> bool:
        """Whether `other` is of the same draws and test images, and of the same shape."""

    @abstractmethod
    def of_draws(self, places: Sequence[int]) -> Self:
        """Return the scores of the draws at `places`."""

    @abstractmethod
    def __add__(self, other: Self) -> Self: ...

    @abstractmethod
    def __mul__(self, factor: float | np.ndarray) -> Self: ...

    @abstractmethod
    def __getitem__(self, index: int | None) -> Self: ...

    def __sub__(self, other: Self) -> Self:
        return self + other * -1.0


@dataclass(frozen=True)
class FixedTestScores(Scores):
    """A score on all images of one fixed test set, and with each test group left out."""

    sampling_unit: ClassVar[str] = "draw of the training subset"
    unknown_spread: ClassVar[str] = "all test images, or all of a class, are of one group"

    whole: np.ndarray  # float [draws, ...], seeds averaged
    left_out: np.ndarray  # float [groups, draws, ...]; NaN where the rest has no score
    # float [3, draws, ...], what seeds say of the chance of training (`average_seeds`): the variance that it gives
    # `whole`, that variance squared over its degrees of freedom, and the part of the variance between test groups that
    # is such chance. None: nothing, as with one seed
    training: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.left_out.shape[1:] != self.whole.shape or self.whole.ndim == 0 or 0 in self.whole.shape:
            raise ValueError(f"scores {self.whole.shape} and {self.left_out.shape} with groups left out do not fit")

    @property
    def covers(self) -> Covers:
        """What an interval of `estimate` speaks of.

        With fewer than three draws that is these draws on other test images, trained with other seeds.
        """
        return "test groups" if self.n_draws < MIN_DRAWS else "draws and test groups"

    def pairs_with(self, other: Scores) -> bool:
        """Whether `other` has as many draws and test groups, and the same shape."""
        return isinstance(other, FixedTestScores) and self.left_out.shape == other.left_out.shape

    def of_draws(self, places: Sequence[int]) -> "FixedTestScores":
        """Return the scores of the draws at `places`."""
        chosen = list(places)
        return FixedTestScores(self.whole[chosen], self.left_out[:, chosen], self._training[:, chosen])

    @property
    def _training(self) -> np.ndarray:
        return np.zeros((3, *self.whole.shape)) if self.training is None else self.training

    def __add__(self, other: "FixedTestScores") -> "FixedTestScores":
        training = self._training + other._training
        return FixedTestScores(self.whole + other.whole, self.left_out + other.left_out, training)

    def __mul__(self, factor: float | np.ndarray) -> "FixedTestScores":
        training = [factor**power * part for power, part in zip((2, 4, 2), self._training, strict=True)]
        return FixedTestScores(factor * self.whole, factor * self.left_out, np.stack(training))

    def __getitem__(self, index: int | None) -> "FixedTestScores":
        return FixedTestScores(self.whole[..., index], self.left_out[..., index], self._training[..., index])

    def estimate(self) -> Estimate:
        """Return the mean over draws with its standard error and degrees of freedom."""
        n_groups, n_draws = self.left_out.shape[:2]
        value = self.whole.mean(axis=0)
        if n_groups < 2:
            return Estimate(value, np.full(value.shape, np.nan), np.full(value.shape, np.nan))
        table = n_groups * self.whole - (n_groups - 1) * self.left_out
        of_groups = n_draws * table.mean(axis=1).var(axis=0, ddof=1)  # mean square
        if self.covers == "test groups":
            variance, degrees_of_freedom = self._over_seeds(of_groups / (n_draws * n_groups))
            return Estimate(value, np.sqrt(variance), degrees_of_freedom)
        of_draws = n_groups * table.mean(axis=0).var(axis=0, ddof=1)
        mean_squares = np.stack([of_draws, of_groups, _residual_mean_square(table, 1)])
        scaled, degrees_of_freedom = crossed_variance(mean_squares, n_draws, n_groups)
        return Estimate(value, np.sqrt(scaled / (n_draws * n_groups)), degrees_of_freedom)

    def _over_seeds(self, of_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of the mean over these draws, and its degrees of freedom, from that between groups."""
        others = len(self.left_out) - 1
        sums = self._training.sum(axis=1)
        of_training, uncertain, residual_variance = (
            part / self.n_draws**power for power, part in zip((2, 4, 2), sums, strict=True)
        )
        excess = np.maximum(of_groups - residual_variance, 0)
        variance = of_training + excess
        uncertain = uncertain + np.where(excess > 0, of_groups**2 / others, 0)
        degrees_of_freedom = np.divide(
            variance**2, uncertain, out=np.full(variance.shape, float(others)), where=uncertain > 0
        )
        return variance, np.maximum(degrees_of_freedom, 1.0)


def average_seeds(per_run: FixedTestScores) -> FixedTestScores:
    """Return the mean over seeds of scores ``[draws, seeds, ...]``, with what the seeds say of the chance of training.

    In the two-way table of one draw's seeds and test groups, seeds are what draws are in that of `crossed_variance`.
    """
    n_groups, n_seeds = len(per_run.left_out), per_run.whole.shape[1]
    whole, left_out = per_run.whole.mean(axis=1), per_run.left_out.mean(axis=2)
    if n_seeds < 2 or n_groups < 2:
        return FixedTestScores(whole, left_out)
    table = n_groups * per_run.whole - (n_groups - 1) * per_run.left_out
    variance = table.mean(axis=0).var(axis=1, ddof=1) / n_seeds
    residual_variance = _residual_mean_square(table, 2) / (n_groups * n_seeds)
    return FixedTestScores(whole, left_out, np.stack([variance, variance**2 / (n_seeds - 1), residual_variance]))


def _residual_mean_square(table: np.ndarray, rows: int) -> np.ndarray:
    """Return the mean square of what neither test groups, axis 0, nor the axis `rows` of `table` explain."""
    of_groups, of_rows = table.mean(axis=rows, keepdims=True), table.mean(axis=0, keepdims=True)
    rest = table - of_rows - of_groups + table.mean(axis=(0, rows), keepdims=True)
    return np.asarray((rest**2).sum(axis=(0, rows)) / ((table.shape[rows] - 1) * (len(table) - 1)))


def crossed_variance(mean_squares: np.ndarray, n_draws: int, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``draws * groups`` times the variance of a mean over them, and its degrees of freedom; both ``[...]``.

    From `mean_squares` ``[3, ...]`` of draws, of groups and of the rest in the two-way table.
    """
    of_draws, of_groups, residual_mean_square = mean_squares
    excess = np.where(np.isnan(residual_mean_square), np.nan, np.maximum(of_groups - residual_mean_square, 0))
    of_excess = np.where(excess > 0, (of_groups**2 + residual_mean_square**2 / (n_draws - 1)) / (n_groups - 1), 0)
    scaled = of_draws + excess
    uncertain = of_draws**2 / (n_draws - 1) + of_excess
    degrees_of_freedom = np.divide(scaled**2, uncertain, out=np.full(scaled.shape, n_draws - 1.0), where=uncertain != 0)
    # Draws that happen to lie closer together than noise allows leave hardly any freedom, and no interval to speak of.
    return scaled, np.maximum(degrees_of_freedom, n_draws - 1.0)


@dataclass(frozen=True)
class RepeatedSplits:
    """Repeated random divisions of one data set into a test part and a training part."""

    tests: tuple[tuple[int, ...], ...]  # the numbers of the test images of each split
    # images of the training part, from which training subsets are drawn; of several numbers the smallest. Not the size
    # of a subset, which would overstate how far splits overlap
    n_train: int

    def __post_init__(self) -> None:
        if self.n_train < 1 or not all(self.tests):
            raise ValueError(f"a split needs images on both sides ({self.n_train} to train with)")
        if len({tuple(sorted(test)) for test in self.tests}) < len(self.tests):
            raise ValueError("two splits have one test set; the correction is for splits that change it")

    @property
    def test_ratio(self) -> float:
        """The number of test images over that of the training part."""
        return float(np.mean([len(test) for test in self.tests])) / self.n_train

    def at(self, places: Sequence[int]) -> "RepeatedSplits":
        """Return the splits at `places`."""
        return RepeatedSplits(tuple(self.tests[place] for place in places), self.n_train)


@dataclass(frozen=True)
class RepeatedSplitScores(Scores):
    """A score of each split."""

    covers: ClassVar[Covers] = "splits"  # of other samples of such images
    sampling_unit: ClassVar[str] = "split of the images"
    unknown_spread: ClassVar[str] = "the scores of all splits are alike, which tells nothing of their spread"

    whole: np.ndarray  # float [splits, ...], seeds averaged
    splits: RepeatedSplits  # which images each split tests on

    def __post_init__(self) -> None:
        if self.whole.ndim == 0 or 0 in self.whole.shape or len(self.whole) != len(self.splits.tests):
            raise ValueError(f"scores {self.whole.shape} need one row for each of {len(self.splits.tests)} splits")

    def pairs_with(self, other: Scores) -> bool:
        """Whether `other` is of the same splits, and of the same shape."""
        same = isinstance(other, RepeatedSplitScores) and self.splits == other.splits
        return same and self.whole.shape == other.whole.shape

    def of_draws(self, places: Sequence[int]) -> "RepeatedSplitScores":
        """Return the scores of the splits at `places`."""
        return RepeatedSplitScores(self.whole[list(places)], self.splits.at(places))

    def __add__(self, other: "RepeatedSplitScores") -> "RepeatedSplitScores":
        if self.splits != other.splits:
            raise ValueError("scores of different splits cannot be added")
        return RepeatedSplitScores(self.whole + other.whole, self.splits)

    def __mul__(self, factor: float | np.ndarray) -> "RepeatedSplitScores":
        return RepeatedSplitScores(factor * self.whole, self.splits)

    def __getitem__(self, index: int | None) -> "RepeatedSplitScores":
        return RepeatedSplitScores(self.whole[..., index], self.splits)

    def estimate(self) -> Estimate:
        """Return the mean over splits with its corrected standard error and ``splits - 1`` degrees of freedom.

        With fewer than three splits nothing is known of the spread, nor where all of them have one score: two networks
        that call everything by one class score alike on test images in the same proportions.
        """
        value, n = self.whole.mean(axis=0), len(self.whole)
        if n < MIN_DRAWS:
            unknown = np.full(value.shape, np.nan)
            return Estimate(value, unknown, unknown)
        variance = self.whole.var(axis=0, ddof=1)
        error = np.sqrt((1 / n + self.splits.test_ratio) * np.where(variance <= ROUNDING**2, np.nan, variance))
        return Estimate(value, error, np.full(value.shape, n - 1.0))
