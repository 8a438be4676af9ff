"""Uncertainty of a score over two crossed random factors: draws of the training subset, and groups of test images.

Every draw's classifiers judge the same test images, as every reader of a multi-reader multi-case study reads the same
cases. So the analysis is that of such studies: pseudo-values of the score, one a draw and test group, from leaving each
group out; variances of their two-way table; a t quantile with the degrees of freedom that belong to them.

- Pseudo-values in a two-way table: Dorfman, Berbaum and Metz, Investigative Radiology 1992;27:723-731.
- The variance that never falls below the part of the draws, and its degrees of freedom: Hillis, Statistics in Medicine
  2007;26:596-619; here the part of the test groups lowers the degrees of freedom too (Satterthwaite 1946).
- Groups left out whole, as images of one group are alike: Obuchowski, Biometrics 1997;53:567-578.

The chance of training is part of what differs between draws. With fewer than three draws nothing is said of others;
then seeds take their place in the same formula, and an interval speaks of other seeds and other test groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sonosynth.statistics.estimates import MIN_DRAWS, Covers, Estimate, Scores


@dataclass(frozen=True)
class FixedTestScores(Scores):
    """A score on all images of one fixed test set, and with each test group left out.

    Attributes:
        whole: float ``[draws, ...]``, seeds averaged.
        left_out: float ``[groups, draws, ...]``; NaN where the rest has no score.
        training: float ``[3, draws, ...]``, what seeds say of the chance of training (`over_seeds`): the variance that
            it gives `whole`, that variance squared over its degrees of freedom, and the part of the variance between
            test groups that is such chance. None: nothing, as with one seed.
    """

    sampled: ClassVar[str] = "draw of the training subset"
    unsure: ClassVar[str] = "all test images, or all of a class, are of one group"

    whole: np.ndarray
    left_out: np.ndarray
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

    def fits(self, other: Scores) -> bool:
        """Whether `other` has as many draws and test groups, and the same shape."""
        return isinstance(other, FixedTestScores) and self.left_out.shape == other.left_out.shape

    @property
    def _training(self) -> np.ndarray:
        return np.zeros((3, *self.whole.shape)) if self.training is None else self.training

    def _times(self, factor: np.ndarray | float) -> "FixedTestScores":
        training = [factor**power * part for power, part in zip((2, 4, 2), self._training, strict=True)]
        return FixedTestScores(factor * self.whole, factor * self.left_out, np.stack(training))

    def of_draws(self, places: Sequence[int]) -> "FixedTestScores":
        """Return the scores of the draws at `places`."""
        chosen = list(places)
        return FixedTestScores(self.whole[chosen], self.left_out[:, chosen], self._training[:, chosen])

    def along(self, weights: np.ndarray) -> "FixedTestScores":
        """Return scores with one more axis, the last: these times each of `weights`, float ``[m]``."""
        return FixedTestScores(self.whole[..., None], self.left_out[..., None], self._training[..., None])._times(
            weights
        )

    def __add__(self, other: "FixedTestScores") -> "FixedTestScores":
        training = self._training + other._training
        return FixedTestScores(self.whole + other.whole, self.left_out + other.left_out, training)

    def __rmul__(self, factor: float) -> "FixedTestScores":
        return self._times(factor)

    def __getitem__(self, index: int) -> "FixedTestScores":
        """Return the score at `index` of the last axis."""
        return FixedTestScores(self.whole[..., index], self.left_out[..., index], self._training[..., index])

    def estimate(self) -> Estimate:
        """Return the mean over draws with its standard error and degrees of freedom."""
        n_groups, n_draws = self.left_out.shape[:2]
        value = self.whole.mean(axis=0)
        if n_groups < 2:
            return Estimate(value, np.full(value.shape, np.nan), np.full(value.shape, np.nan), self.covers)
        table = n_groups * self.whole - (n_groups - 1) * self.left_out
        of_groups = n_draws * table.mean(axis=1).var(axis=0, ddof=1)  # mean square
        if self.covers == "test groups":
            variance, freedom = self._other_seeds(of_groups / (n_draws * n_groups))
            return Estimate(value, np.sqrt(variance), freedom, self.covers)
        of_draws = n_groups * table.mean(axis=0).var(axis=0, ddof=1)
        mean_squares = np.stack([of_draws, of_groups, _mean_square_of_rest(table, 1)])
        spread, freedom = crossed_spread(mean_squares, n_draws, n_groups)
        return Estimate(value, np.sqrt(spread / (n_draws * n_groups)), freedom, self.covers)

    def _other_seeds(self, of_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of the mean over these draws, and its degrees of freedom, from that between groups."""
        others = len(self.left_out) - 1
        sums = self._training.sum(axis=1)
        of_training, uncertain, of_rest = (
            part / self.n_draws**power for power, part in zip((2, 4, 2), sums, strict=True)
        )
        excess = np.maximum(of_groups - of_rest, 0)
        variance = of_training + excess
        uncertain = uncertain + np.where(excess > 0, of_groups**2 / others, 0)
        freedom = np.divide(variance**2, uncertain, out=np.full(variance.shape, float(others)), where=uncertain > 0)
        return variance, np.maximum(freedom, 1.0)


def over_seeds(by_run: FixedTestScores) -> FixedTestScores:
    """Return the mean over seeds of scores ``[draws, seeds, ...]``, with what the seeds say of the chance of training.

    In the two-way table of one draw's seeds and test groups, seeds are what draws are in that of `crossed_spread`.
    """
    n_groups, n_seeds = len(by_run.left_out), by_run.whole.shape[1]
    whole, left_out = by_run.whole.mean(axis=1), by_run.left_out.mean(axis=2)
    if n_seeds < 2 or n_groups < 2:
        return FixedTestScores(whole, left_out)
    table = n_groups * by_run.whole - (n_groups - 1) * by_run.left_out
    variance = table.mean(axis=0).var(axis=1, ddof=1) / n_seeds
    of_rest = _mean_square_of_rest(table, 2) / (n_groups * n_seeds)
    return FixedTestScores(whole, left_out, np.stack([variance, variance**2 / (n_seeds - 1), of_rest]))


def _mean_square_of_rest(table: np.ndarray, rows: int) -> np.ndarray:
    """Return the mean square of what neither test groups, axis 0, nor the axis `rows` of `table` explain."""
    of_groups, of_rows = table.mean(axis=rows, keepdims=True), table.mean(axis=0, keepdims=True)
    rest = table - of_rows - of_groups + table.mean(axis=(0, rows), keepdims=True)
    return np.asarray((rest**2).sum(axis=(0, rows)) / ((table.shape[rows] - 1) * (len(table) - 1)))


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


def jackknife(score: Callable[[np.ndarray], np.ndarray], groups: np.ndarray) -> FixedTestScores:
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
    return FixedTestScores(whole, np.stack(left_out))
