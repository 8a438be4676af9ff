"""The statistics of repeated random splits, each with test images of its own."""

import numpy as np
import pytest
from scipy import stats

from repeated_splits import split_scores
from simulated_outcomes import macro_f1
from sonosynth.statistics.comparisons import score_difference
from sonosynth.statistics.f1 import f1_intervals, repeated_splits_f1
from sonosynth.statistics.learning_curves import equivalent_real_images, learning_curve
from sonosynth.statistics.power import BUSI_COMPONENTS, minimum_detectable_difference, repeated_splits_error
from sonosynth.statistics.scores import RepeatedSplits, RepeatedSplitScores


def splits_of(random, n_splits, n=400, n_test=100):
    return RepeatedSplits(tuple(tuple(random.permutation(n)[:n_test].tolist()) for _ in range(n_splits)), n - n_test)


def pair(random, n_splits=10, gain=0.0):
    splits = splits_of(random, n_splits)
    a, b = random.normal(0.6, 0.05, (2, n_splits))
    return RepeatedSplitScores(a, splits), RepeatedSplitScores(b + gain, splits)


def test_the_difference_is_the_paired_t_test_with_a_wider_error():
    a, b = pair(np.random.default_rng(8))
    ours, plain = score_difference(a, b), stats.ttest_rel(b.whole, a.whole)
    assert ours.absolute.value == pytest.approx(np.mean(b.whole - a.whole))
    assert ours.p_value == pytest.approx(2 * stats.t.sf(abs(plain.statistic) / np.sqrt(1 + 10 / 3), 9))
    low, high = plain.confidence_interval(0.95)
    width = ours.absolute.high - ours.absolute.low
    assert width == pytest.approx((high - low) * np.sqrt(1 + 10 / 3))
    assert ours.covers == "splits"


@pytest.mark.slow
def test_it_holds_its_level_where_the_plain_one_does_not():
    random, n = np.random.default_rng(9), 300
    ours = plain = 0
    for _ in range(n):
        a, b, splits = split_scores(random, 10)
        ours += score_difference(RepeatedSplitScores(a, splits), RepeatedSplitScores(b, splits)).p_value < 0.05
        plain += stats.ttest_rel(a, b).pvalue < 0.05
    assert ours / n < 0.085
    assert plain / n > 0.15


def test_the_relative_difference_excludes_zero_where_the_absolute_one_does():
    random = np.random.default_rng(4)
    verdicts = set()
    for gain in (0.0, 0.1, 0.2, 0.3):
        found = score_difference(*pair(random, gain=gain))
        assert found.relative is not None
        assert found.relative.excludes_zero == found.absolute.excludes_zero
        verdicts.add(found.absolute.excludes_zero)
    assert verdicts == {False, True}


def test_two_splits_are_a_description():
    random = np.random.default_rng(5)
    found = score_difference(*pair(random, n_splits=2, gain=0.2))
    assert found.p_value is None and "two splits of the images" in found.no_p_value_reason
    assert np.isfinite(found.absolute.value) and np.isnan(found.absolute.low)
    assert score_difference(*pair(random, n_splits=1)).no_p_value_reason.startswith("one split of the images")


def test_a_fixed_test_set_and_splits_of_others_are_refused():
    test = tuple(range(50))
    with pytest.raises(ValueError, match="one test set"):
        RepeatedSplits((test, test[::-1]), 100)
    with pytest.raises(ValueError, match="both sides"):
        RepeatedSplits((test, ()), 100)
    random = np.random.default_rng(6)
    splits = splits_of(random, 3)
    with pytest.raises(ValueError, match="each of 3 splits"):
        RepeatedSplitScores(np.zeros(4), splits)
    a, b = RepeatedSplitScores(np.zeros(3), splits), RepeatedSplitScores(np.zeros(3), splits_of(random, 3))
    with pytest.raises(ValueError, match="same test images"):
        score_difference(a, b)


def test_f1_of_each_split_is_that_of_its_own_images():
    random = np.random.default_rng(7)
    splits = RepeatedSplits(((0, 1, 2, 3, 4, 5), (4, 5, 6, 7, 8, 9, 10)), 20)
    labels = [np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2, 2, 0])]
    predictions = [random.integers(0, 3, (4, len(true))) for true in labels]
    scores = repeated_splits_f1(labels, predictions, 3, splits)
    assert scores.whole.shape == (2, 5)
    by_hand = [macro_f1(true, called).mean() for true, called in zip(labels, predictions, strict=True)]
    assert scores[-2].whole == pytest.approx(by_hand)
    assert f1_intervals(scores).macro_f1.value == pytest.approx(np.mean(by_hand))


def test_curves_and_worth_have_intervals_of_the_same_test():
    random = np.random.default_rng(8)
    splits = splits_of(random, 6)
    noise = random.normal(0, 0.005, (4, 6))
    without = [RepeatedSplitScores(0.5 + 0.1 * k + noise[k], splits) for k in range(3)]
    curve = learning_curve((25, 50, 100), without)
    assert all(point.low < point.value < point.high for point in curve.points)
    worth = equivalent_real_images((25, 50, 100), without, 25, RepeatedSplitScores(0.6 + noise[3], splits))
    assert 25 < worth.equivalent.low < worth.equivalent.value < worth.equivalent.high < 100
    assert worth.equivalent.value == pytest.approx(50, rel=0.1)


def test_scores_that_do_not_differ_between_splits_tell_nothing_of_their_spread():
    splits = splits_of(np.random.default_rng(2), 4)
    a, b = RepeatedSplitScores(np.full(4, 0.2), splits), RepeatedSplitScores(np.full(4, 0.15), splits)
    found = score_difference(a, b)
    assert found.p_value is None and "all splits are alike" in found.no_p_value_reason
    assert found.absolute.value == pytest.approx(-0.05) and np.isnan(found.absolute.low)
    assert np.isnan(a.estimate().logit_interval().low)


def test_the_smallest_difference_is_found_as_often_as_it_says():
    random, n_groups, n_splits, n_seeds = np.random.default_rng(10), 600, 5, 3
    spread = repeated_splits_error(BUSI_COMPONENTS, n_splits, n_seeds, 150, 1 / 3)
    smallest, repeats, found, errors = minimum_detectable_difference(*spread), 1500, 0, []
    for _ in range(repeats):  # one data set each, whose groups differ in what the other arm gains
        gains = random.normal(smallest, np.sqrt(BUSI_COMPONENTS.group), n_groups)
        tests = [random.permutation(n_groups)[:150] for _ in range(n_splits)]
        noise = np.sqrt(BUSI_COMPONENTS.draw + BUSI_COMPONENTS.seed / n_seeds) * random.standard_normal(n_splits)
        scores = np.array([gains[test].mean() for test in tests]) + noise
        splits = RepeatedSplits(tuple(tuple(test.tolist()) for test in tests), n_groups - 150)
        estimate = RepeatedSplitScores(scores, splits).estimate()
        errors.append(float(estimate.standard_error))
        found += estimate.p_value() < 0.05
    assert spread[0] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.03)
    assert 0.78 < found / repeats < 0.88  # the test is a little on the safe side of what was predicted
    assert repeated_splits_error(BUSI_COMPONENTS, 2, n_seeds, 150, 1 / 3) is None
