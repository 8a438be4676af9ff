"""Several readers, the same cases: averages over readers whose intervals hold for other readers and other cases.

Scores of readers are AUCs, or shares of right answers. Two analyses, which rest on different estimates:

- Obuchowski and Rockette (Commun Stat Simul Comput 24:285, 1995): readers' scores as an analysis of variance with
  correlated errors, whose covariances come from the cases (DeLong and others, Biometrics 44:837, 1988), with the
  degrees of freedom of Hillis (Stat Med 26:596, 2007), for one condition of Hillis (Stat Med 33:330, 2014).
- Gallas (Acad Radiol 13:353, 2006): the variance of a U-statistic over readers and cases, estimated without bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sonosynth.statistics.scores import LEVEL


@dataclass(frozen=True, eq=False)
class ReaderScores:
    """Scores of R readers under T conditions, and what is known of their errors from the cases."""

    values: np.ndarray  # float64 [T, R]
    covariance: np.ndarray  # float64 [T, R, T, R], of errors over cases, with readers held fixed


@dataclass(frozen=True)
class ReaderEstimate:
    """A score averaged over readers, or the difference of two."""

    value: float
    standard_error: float
    degrees_of_freedom: float
    low: float  # of the 95 % interval
    high: float

    def p_value(self, null: float) -> float:
        """Return the two-sided p-value against `null`."""
        if self.standard_error == 0:
            return float(self.value == null)
        return float(2 * stats.t.sf(abs(self.value - null) / self.standard_error, self.degrees_of_freedom))

    def equivalence_p_value(self, null: float, margin: float) -> float:
        """Return the p-value of "`null` plus or minus `margin` or further away" by two one-sided tests.

        Schuirmann, J Pharmacokinet Biopharm 15:657, 1987. Below 0.05 the score is within the margin. Without any spread
        between readers and cases, as where all give one rating throughout, nothing is shown: 1.
        """
        if margin <= 0:
            raise ValueError(f"margin = {margin}: it must be above 0")
        distance = abs(self.value - null)
        if self.standard_error == 0:
            return 1.0
        return float(stats.t.sf((margin - distance) / self.standard_error, self.degrees_of_freedom))


def success_matrix(negative: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return float64 ``[R, N0, N1]``: 1 where a positive case was rated above a negative one, 1/2 for equal ratings.

    `negative` ``[R, N0]`` and `positive` ``[R, N1]`` are ratings; their mean over cases is the AUC of each reader.
    """
    difference = positive[:, None, :].astype(np.float64) - negative[:, :, None]
    return np.asarray((np.sign(difference) + 1) / 2)


def auc_scores(conditions: Sequence[tuple[np.ndarray, np.ndarray]], *, same_cases: bool = True) -> ReaderScores:
    """Return AUCs with covariances by DeLong's method.

    Each of `conditions` is a pair of ratings, of negative cases ``[R, N0]`` and positive cases ``[R, N1]``, at least
    two of each, by the same readers. Errors of conditions whose cases are others are independent.
    """
    successes = [success_matrix(*ratings) for ratings in conditions]
    values = np.stack([s.mean(axis=(1, 2)) for s in successes])
    covariance = _by_condition([s.mean(axis=2) for s in successes], same_cases)
    return ReaderScores(values, covariance + _by_condition([s.mean(axis=1) for s in successes], same_cases))


def share_scores(conditions: Sequence[np.ndarray], *, same_cases: bool = True) -> ReaderScores:
    """Return shares of right answers, each of `conditions` being ``[R, N]`` of 0 and 1, N at least 2."""
    answers = [np.asarray(right, dtype=np.float64) for right in conditions]
    return ReaderScores(np.stack([a.mean(axis=1) for a in answers]), _by_condition(answers, same_cases))


def _by_condition(arrays: Sequence[np.ndarray], same_cases: bool) -> np.ndarray:
    """Return the covariances ``[T, R, T, R]`` of means over cases, one array ``[R, N]`` per condition."""
    t, r = len(arrays), len(arrays[0])
    if min(a.shape[1] for a in arrays) < 2:
        raise ValueError("covariances need at least two cases of each kind")
    if same_cases:
        together = np.concatenate(arrays)
        return np.asarray(np.cov(together).reshape(t, r, t, r) / together.shape[1])
    covariance = np.zeros((t, r, t, r))
    for k, a in enumerate(arrays):
        covariance[k, :, k, :] = np.cov(a).reshape(r, r) / a.shape[1]
    return covariance


def reader_average(scores: ReaderScores, condition: int = 0) -> ReaderEstimate:
    """Return the average over the readers of one condition, by Obuchowski and Rockette; at least two readers.

    Its variance is ``(MS(R) + R max(Cov2, 0)) / R``, with Hillis' degrees of freedom.
    """
    values, covariance = scores.values[condition], scores.covariance[condition, :, condition, :]
    r = _n_readers(values)
    mean_square = float(values.var(ddof=1))
    between = max(_off_diagonal(covariance), 0.0)
    return _estimate(float(values.mean()), (mean_square + r * between) / r, mean_square, r * between, r - 1)


def reader_difference(scores: ReaderScores) -> ReaderEstimate:
    """Return the second condition minus the first, by Obuchowski and Rockette with Hillis' degrees of freedom.

    Its variance is ``2 (MS(TR) + R max(Cov2 - Cov3, 0)) / R``; Cov3 is 0 where the conditions have other cases.
    """
    values, covariance = scores.values, scores.covariance
    if len(values) != 2:
        raise ValueError(f"{len(values)} conditions: a difference is between two")
    r = _n_readers(values[0])
    difference = values[1] - values[0]
    mean_square = float(difference.var(ddof=1)) / 2  # MS(TR) of two conditions
    cov2 = np.mean([_off_diagonal(covariance[t, :, t, :]) for t in (0, 1)])
    cov3 = _off_diagonal(covariance[0, :, 1, :])
    rest = r * max(float(cov2 - cov3), 0.0)
    return _estimate(float(difference.mean()), 2 * (mean_square + rest) / r, mean_square, rest, r - 1)


def _n_readers(values: np.ndarray) -> int:
    if len(values) < 2:
        raise ValueError(f"{len(values)} readers: what holds for other readers needs at least two")
    return len(values)


def _off_diagonal(square: np.ndarray) -> float:
    """Return the mean of what is not on the diagonal of a square matrix."""
    n = len(square)
    return float((square.sum() - np.trace(square)) / (n * (n - 1)))


def _estimate(value: float, variance: float, mean_square: float, rest: float, df: int) -> ReaderEstimate:
    hillis = df * ((mean_square + rest) / mean_square) ** 2 if mean_square > 0 else np.inf
    return _with_interval(value, variance, float(hillis))


def _with_interval(value: float, variance: float, df: float) -> ReaderEstimate:
    error = float(np.sqrt(max(variance, 0.0)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    return ReaderEstimate(value, error, df, value - half, value + half)


def u_statistic_moments(success: np.ndarray) -> np.ndarray:
    """Return Gallas' moments M1 to M8 of `success` ``[R, N0, N1]``, each without bias; at least two of everything.

    M1 to M4 are means of products of two successes of one reader, M5 to M8 of two readers: of the same two cases; the
    same negative case and two positive ones; two negative ones and the same positive one; four cases.
    """
    s = np.asarray(success, dtype=np.float64)
    if min(s.shape) < 2:
        raise ValueError(f"{list(s.shape)} readers, negative and positive cases: two of each are needed")
    r, n0, n1 = s.shape

    def shared(*axes: int) -> float:
        """Sum of products over all pairs that agree in `axes`, whatever the others are."""
        others = tuple(axis for axis in range(3) if axis not in axes)
        return float((s.sum(axis=others) ** 2).sum())

    one, per_reader = shared(0, 1, 2), shared(0)
    negative, positive = shared(0, 1), shared(0, 2)
    case, of_negative, of_positive, everything = shared(1, 2), shared(1), shared(2), shared()
    m1 = one / (r * n0 * n1)
    m2 = (negative - one) / (r * n0 * n1 * (n1 - 1))
    m3 = (positive - one) / (r * n1 * n0 * (n0 - 1))
    m4 = (per_reader - negative - positive + one) / (r * n0 * (n0 - 1) * n1 * (n1 - 1))
    pairs = r * (r - 1)
    m5 = (case - one) / (pairs * n0 * n1)
    m6 = (of_negative - negative - case + one) / (pairs * n0 * n1 * (n1 - 1))
    m7 = (of_positive - positive - case + one) / (pairs * n1 * n0 * (n0 - 1))
    apart = everything - per_reader - of_negative - of_positive + negative + positive + case - one
    m8 = apart / (pairs * n0 * (n0 - 1) * n1 * (n1 - 1))
    return np.array([m1, m2, m3, m4, m5, m6, m7, m8])


def u_statistic_average(success: np.ndarray) -> ReaderEstimate:
    """Return the AUC averaged over readers, or with differences of two successes their difference, by Gallas.

    `success` is ``[R, N0, N1]``. The estimate of the variance has no bias, and so can be below 0; then 0 stands
    for it. Degrees of freedom are Hillis' with this variance (ours; Gallas has the normal distribution, which is too
    narrow for few readers).
    """
    r = len(success)
    per_reader = success.mean(axis=(1, 2))
    variance = max(float(per_reader.mean() ** 2 - u_statistic_moments(success)[7]), 0.0)
    mean_square = float(per_reader.var(ddof=1))
    df = (r - 1) * max(variance / (mean_square / r), 1.0) ** 2 if mean_square > 0 else np.inf
    return _with_interval(float(per_reader.mean()), variance, float(df))
