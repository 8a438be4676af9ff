"""Uncertainty of a score over repeated random splits of one data set, each with test images of its own.

Test and training parts of repeated splits overlap, so their scores vary too little. The variance of the mean takes
``1 / R + n_test / n_train`` instead of ``1 / R`` (Nadeau and Bengio, Machine Learning 2003;52:239-281). The correction
belongs to this design alone: on one fixed test set the test images never change, and it knows nothing of what others
would bring; `fixed_test` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sonosynth.statistics.estimates import MIN_DRAWS, ROUNDING, Covers, Estimate, Scores


@dataclass(frozen=True)
class RepeatedSplits:
    """Repeated random divisions of one data set into a test part and a training part.

    Attributes:
        tests: the numbers of the test images of each split.
        n_train: images of the training part, from which training subsets are drawn; of several numbers the smallest.
            Not the size of a subset, which would overstate how far splits overlap.

    Raises:
        ValueError: two splits have the same test images, or a part is empty.
    """

    tests: tuple[tuple[int, ...], ...]
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
    """A score of each split.

    Attributes:
        whole: float ``[splits, ...]``, seeds averaged.
        splits: which images each split tests on.
    """

    sampled: ClassVar[str] = "split of the images"
    unsure: ClassVar[str] = "the scores of all splits are alike, which tells nothing of their spread"

    whole: np.ndarray
    splits: RepeatedSplits

    def __post_init__(self) -> None:
        if self.whole.ndim == 0 or 0 in self.whole.shape or len(self.whole) != len(self.splits.tests):
            raise ValueError(f"scores {self.whole.shape} need one row for each of {len(self.splits.tests)} splits")

    @property
    def covers(self) -> Covers:
        """What an interval of `estimate` speaks of: splits of other samples of such images."""
        return "splits"

    def fits(self, other: Scores) -> bool:
        """Whether `other` is of the same splits, and of the same shape."""
        same = isinstance(other, RepeatedSplitScores) and self.splits == other.splits
        return same and self.whole.shape == other.whole.shape

    def of_draws(self, places: Sequence[int]) -> "RepeatedSplitScores":
        """Return the scores of the splits at `places`."""
        return RepeatedSplitScores(self.whole[list(places)], self.splits.at(places))

    def along(self, weights: np.ndarray) -> "RepeatedSplitScores":
        """Return scores with one more axis, the last: these times each of `weights`, float ``[m]``."""
        return RepeatedSplitScores(self.whole[..., None] * weights, self.splits)

    def __add__(self, other: "RepeatedSplitScores") -> "RepeatedSplitScores":
        if self.splits != other.splits:
            raise ValueError("scores of different splits cannot be added")
        return RepeatedSplitScores(self.whole + other.whole, self.splits)

    def __rmul__(self, factor: float) -> "RepeatedSplitScores":
        return RepeatedSplitScores(factor * self.whole, self.splits)

    def __getitem__(self, index: int) -> "RepeatedSplitScores":
        """Return the score at `index` of the last axis."""
        return RepeatedSplitScores(self.whole[..., index], self.splits)

    def estimate(self) -> Estimate:
        """Return the mean over splits with its corrected standard error and ``splits - 1`` degrees of freedom.

        With fewer than three splits nothing is known of the spread, nor where all of them have one score: two networks
        that call everything by one class score alike on test images in the same proportions.
        """
        value, n = self.whole.mean(axis=0), len(self.whole)
        if n < MIN_DRAWS:
            unknown = np.full(value.shape, np.nan)
            return Estimate(value, unknown, unknown, self.covers)
        variance = self.whole.var(axis=0, ddof=1)
        error = np.sqrt((1 / n + self.splits.test_ratio) * np.where(variance <= ROUNDING**2, np.nan, variance))
        return Estimate(value, error, np.full(value.shape, n - 1.0), self.covers)
