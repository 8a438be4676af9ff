"""Averages over readers: against formulas written out another way, and by how often intervals hold the truth."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from sonosynth.statistics.readers import (
    auc_scores,
    reader_average,
    reader_difference,
    share_scores,
    success_matrix,
    u_statistic_average,
    u_statistic_moments,
)


def ratings(rng, r=3, n0=4, n1=5, levels=4):
    """Ratings ``[R, N0]`` and ``[R, N1]`` that share a part per case, so that errors of readers are correlated."""
    negative, positive = (rng.integers(0, levels, n) + rng.integers(0, 3, (r, n)) for n in (n0, n1))
    return negative, positive + rng.integers(0, 2, (r, n1))


def test_aucs_are_those_of_scikit_learn():
    negative, positive = ratings(np.random.default_rng(0), 3, 12, 15)
    truth = np.repeat([0, 1], [12, 15])
    expected = [roc_auc_score(truth, np.concatenate([a, b])) for a, b in zip(negative, positive, strict=True)]
    np.testing.assert_allclose(auc_scores([(negative, positive)]).values[0], expected)


def test_moments_are_means_over_the_pairs_that_define_them():
    success = success_matrix(*ratings(np.random.default_rng(1)))
    r, n0, n1 = success.shape
    sums, counts = np.zeros(8), np.zeros(8)
    index = list(itertools.product(range(r), range(n0), range(n1)))
    for (a, i, j), (b, k, m) in itertools.product(index, index):
        which = 4 * (a != b) + {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}[i == k, j == m]
        sums[which] += success[a, i, j] * success[b, k, m]
        counts[which] += 1
    np.testing.assert_allclose(u_statistic_moments(success), sums / counts)


def test_the_variance_of_the_u_statistic_is_the_sum_of_gallas():
    success = success_matrix(*ratings(np.random.default_rng(2), 4, 9, 8))
    r, n0, n1 = success.shape
    m = u_statistic_moments(success)
    weights = np.array([1, n1 - 1, n0 - 1, (n0 - 1) * (n1 - 1)]) / (n0 * n1 * r)
    expected = np.concatenate([weights, (r - 1) * weights]) @ m - m[7]
    assert u_statistic_average(success).standard_error == pytest.approx(max(expected, 0) ** 0.5)


def delong_by_hand(negative, positive):
    """Covariances of AUCs by placements, a loop per pair of readers."""
    r = len(negative)
    found = np.zeros((r, r))
    for a, b in itertools.product(range(r), range(r)):
        v10 = [[np.mean((x > negative[k]) + 0.5 * (x == negative[k])) for x in positive[k]] for k in (a, b)]
        v01 = [[np.mean((positive[k] > x) + 0.5 * (positive[k] == x)) for x in negative[k]] for k in (a, b)]
        found[a, b] = np.cov(v10)[0, 1] / len(v10[0]) + np.cov(v01)[0, 1] / len(v01[0])
    return found


def test_covariances_are_delongs():
    negative, positive = ratings(np.random.default_rng(3), 3, 10, 14)
    found = auc_scores([(negative, positive)]).covariance[0, :, 0, :]
    np.testing.assert_allclose(found, delong_by_hand(negative, positive))


def test_a_single_condition_has_the_interval_of_hillis():
    negative, positive = ratings(np.random.default_rng(4), 4, 20, 20)
    covariance = delong_by_hand(negative, positive)
    cov2 = np.mean([covariance[a, b] for a, b in itertools.permutations(range(4), 2)])
    scores = auc_scores([(negative, positive)])
    mean_square = np.var(scores.values[0], ddof=1)
    found = reader_average(scores)
    assert cov2 > 0
    assert found.standard_error == pytest.approx(np.sqrt(mean_square / 4 + cov2))
    assert found.degrees_of_freedom == pytest.approx(3 * (mean_square + 4 * cov2) ** 2 / mean_square**2)
    half = stats.t.ppf(0.975, found.degrees_of_freedom) * found.standard_error
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_a_difference_is_the_f_test_of_obuchowski_and_rockette():
    rng = np.random.default_rng(5)
    conditions = [ratings(rng, 5, 20, 20), ratings(rng, 5, 20, 20)]
    scores = auc_scores(conditions)
    theta, t, r = scores.values, 2, 5
    cov2 = np.mean([scores.covariance[k, a, k, b] for k in range(t) for a, b in itertools.permutations(range(r), 2)])
    cov3 = np.mean([scores.covariance[0, a, 1, b] for a, b in itertools.permutations(range(r), 2)])
    ms_t = r * np.sum((theta.mean(axis=1) - theta.mean()) ** 2) / (t - 1)
    residual = theta - theta.mean(axis=1, keepdims=True) - theta.mean(axis=0) + theta.mean()
    ms_tr = np.sum(residual**2) / ((t - 1) * (r - 1))
    denominator = ms_tr + max(r * (cov2 - cov3), 0)
    ddf = denominator**2 / (ms_tr**2 / ((t - 1) * (r - 1)))
    assert reader_difference(scores).p_value(0) == pytest.approx(stats.f.sf(ms_t / denominator, t - 1, ddf))


def test_conditions_with_other_cases_have_independent_errors():
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 2, (3, 20)), rng.integers(0, 2, (3, 30))
    scores = share_scores([a, b], same_cases=False)
    assert not scores.covariance[0, :, 1, :].any()
    np.testing.assert_allclose(scores.covariance[1, :, 1, :], np.cov(b) / 30)
    with pytest.raises(ValueError, match="two cases"):
        share_scores([a[:, :1], b[:, :1]])


def test_one_reader_says_nothing_of_other_readers():
    with pytest.raises(ValueError, match="at least two"):
        reader_average(auc_scores([ratings(np.random.default_rng(7), 1)]))


def test_equivalence_is_two_one_sided_tests():
    found = reader_average(auc_scores([ratings(np.random.default_rng(8), 4, 30, 30)]))
    low = stats.t.sf((found.value - 0.2) / found.standard_error, found.degrees_of_freedom)
    high = stats.t.cdf((found.value - 0.8) / found.standard_error, found.degrees_of_freedom)
    assert found.equivalence_p_value(0.5, 0.3) == pytest.approx(max(low, high))


def simulated(rng, mu, r=5, n=40, reader=0.1, case=0.5, noise=0.4):
    """Ratings of the model of Roe and Metz (Acad Radiol 4:298, 1997), and the AUC of an average reader."""
    rows = []
    for shift in (0.0, mu):
        of_case = rng.normal(0, case**0.5, n)
        rows.append(shift + rng.normal(0, reader**0.5, (r, 1)) + of_case + rng.normal(0, noise**0.5, (r, n)))
    return rows, stats.norm.cdf(mu / np.sqrt(2 * (reader + case + noise)))


@pytest.mark.long
@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_intervals_hold_the_truth_as_often_as_they_say(mu):
    rng = np.random.default_rng(9)
    held, n = np.zeros(2), 400
    for _ in range(n):
        rows, truth = simulated(rng, mu)
        found = reader_average(auc_scores([(rows[0], rows[1])])), u_statistic_average(success_matrix(*rows))
        held += [one.low <= truth <= one.high for one in found]
    # 0.95 within three standard errors of 400 draws; a little more is the known caution of the method
    assert np.all((held / n > 0.915) & (held / n < 0.985)), held / n


@pytest.mark.long
def test_equivalence_is_declared_falsely_at_most_as_often_as_allowed():
    rng = np.random.default_rng(10)
    margin = stats.norm.cdf(0.3 / np.sqrt(2)) - 0.5  # the truth lies on the margin
    wrong = [
        reader_average(auc_scores([tuple(simulated(rng, 0.3)[0])])).equivalence_p_value(0.5, margin) < 0.05
        for _ in range(400)
    ]
    assert np.mean(wrong) < 0.085
