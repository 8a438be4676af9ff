"""F1 of classes, its mean and balanced accuracy, with intervals."""

import time

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from f1_scores import macro_f1_difference, macro_f1_interval, simulate
from simulated_outcomes import macro_f1
from sonosynth.statistics.f1 import f1_intervals, fixed_test_f1
from sonosynth.statistics.scores import FixedTestScores


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def test_macro_f1_agrees_with_scikit_learn(random):
    labels = random.integers(0, 4, 60)
    predictions = random.integers(0, 3, (2, 3, 60))  # class 3 is never predicted
    ours = fixed_test_f1(labels, np.arange(60), predictions, 4).whole
    for draw in range(2):
        expected = [f1_score(labels, p, labels=range(4), average=None, zero_division=0) for p in predictions[draw]]
        assert ours[draw, :4] == pytest.approx(np.mean(expected, axis=0))
        assert ours[draw, 4] == pytest.approx(np.mean(expected)) == macro_f1(labels, predictions[draw], 4).mean()


def test_classes_without_test_images_are_left_out_of_the_mean(random):
    labels, groups, predictions = simulate(random, 40, 1, 1)
    result = f1_intervals(fixed_test_f1(labels, groups, predictions, 4))
    assert result.macro_f1 == macro_f1_interval(labels, groups, predictions, 3)
    assert np.isnan([result.class_f1[3].value, result.class_f1[3].low]).all()
    expected = f1_score(labels, predictions[0, 0], labels=range(3), average="macro")
    assert macro_f1(labels, predictions[0, 0], 4) == pytest.approx(expected)


def test_a_class_of_one_group_has_no_interval():
    labels = np.array([0] * 10 + [1, 1])
    predictions = np.array([0] * 8 + [1, 1, 1, 0])
    groups = np.append(np.arange(10), [10, 10])
    result = f1_intervals(fixed_test_f1(labels, groups, predictions[None, None], 2))
    assert np.isnan([result.class_f1[1].low, result.macro_f1.low]).all()
    assert 0 < result.class_f1[0].low < result.class_f1[0].value < result.class_f1[0].high < 1
    difference = macro_f1_difference(labels, groups, *np.tile(predictions, (2, 3, 1, 1)), 2)
    assert difference.p_value is None and "one group" in difference.no_p_value_reason


def test_what_never_fails_has_no_interval():
    labels = np.array([0] * 10 + [1] * 10)
    interval = macro_f1_interval(labels, np.arange(20), labels[None, None], 2)
    assert interval.value == 1 and np.isnan([interval.low, interval.high]).all()


def test_point_values_average_seeds_then_draws(random):
    labels, groups, predictions = simulate(random, 40, 3, 2)
    result = f1_intervals(fixed_test_f1(labels, groups, predictions, 3))
    assert result.macro_f1.value == pytest.approx(macro_f1(labels, predictions, 3).mean())
    by_class = [f1_score(labels, p, average=None) for p in predictions.reshape(6, -1)]
    assert [i.value for i in result.class_f1] == pytest.approx(np.mean(by_class, axis=0))
    expected = np.mean([balanced_accuracy_score(labels, p) for p in predictions.reshape(6, -1)])
    assert result.balanced_accuracy.value == pytest.approx(expected)


def test_one_group_has_no_interval():
    interval = macro_f1_interval(np.array([0, 1, 1]), np.zeros(3, int), np.array([[[0, 1, 0]]]), 2)
    assert interval.value == pytest.approx(2 / 3) and np.isnan(interval.low) and not interval.excludes_zero


def test_bad_shapes_are_refused(random):
    labels, groups, predictions = simulate(random, 30, 2, 2)
    for wrong in (predictions[0], predictions[..., 1:], predictions[:0]):
        with pytest.raises(ValueError, match="predictions"):
            macro_f1_interval(labels, groups, wrong, 3)
    with pytest.raises(ValueError, match="must be 0 to 1"):
        macro_f1_interval(labels, groups, predictions, 2)
    with pytest.raises(ValueError, match="do not fit"):
        FixedTestScores(np.zeros(3), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="one value"):
        FixedTestScores(np.zeros((3, 2)), np.zeros((5, 3, 2))).estimate().interval()


def test_full_design_is_fast(random):
    labels, groups, predictions = simulate(random, 130, 5, 5)
    start = time.perf_counter()
    for _ in range(10):
        macro_f1_interval(labels, groups, predictions, 3)
    assert time.perf_counter() - start < 2
