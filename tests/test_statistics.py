import time

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from sonosynth.statistics import class_f1, classifier_intervals, f1_difference, f1_interval, macro_f1


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def simulate(random, n_groups, n_draws, n_seeds, skill=0.8, draw_sd=0.4, n_classes=3):
    """Grouped images with a difficulty per group, predicted by classifiers with a skill per draw."""
    sizes = random.integers(1, 4, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    labels = random.choice(n_classes, n_groups, p=[0.5, 0.3, 0.2])[groups]
    difficulty = random.normal(0, 1, n_groups)[groups]
    skills = skill + random.normal(0, draw_sd, n_draws)
    right = random.random((n_draws, n_seeds, len(groups))) < 1 / (1 + np.exp(-(skills[:, None, None] + difficulty)))
    wrong = (labels + random.integers(1, n_classes, right.shape)) % n_classes
    return labels, groups, np.where(right, labels, wrong)


def test_macro_f1_agrees_with_scikit_learn(random):
    labels = random.integers(0, 4, 60)
    predictions = random.integers(0, 3, (2, 3, 60))  # class 3 is never predicted
    ours = macro_f1(labels, predictions, 4)
    by_class = class_f1(labels, predictions, 4)
    assert ours.shape == (2, 3)
    for index in np.ndindex(2, 3):
        expected = f1_score(labels, predictions[index], labels=range(4), average=None, zero_division=0)
        assert by_class[index] == pytest.approx(expected)
        assert ours[index] == pytest.approx(expected.mean())


def test_classes_without_test_images_are_left_out_of_the_mean(random):
    labels, groups, predictions = simulate(random, 40, 1, 1)
    result = classifier_intervals(labels, groups, predictions, 4, n_resamples=50)
    assert result.macro_f1 == f1_interval(labels, groups, predictions, 3, n_resamples=50)
    assert np.isnan([result.class_f1[3].value, result.class_f1[3].low]).all()
    expected = f1_score(labels, predictions[0, 0], labels=range(3), average="macro")
    assert macro_f1(labels, predictions[0, 0], 4) == pytest.approx(expected)


def test_a_class_that_some_resamples_lack_still_has_an_interval():
    labels = np.array([0] * 10 + [1])  # about a third of the resamples lack class 1
    result = classifier_intervals(labels, np.arange(11), labels[None, None], 2, n_resamples=200)
    assert result.class_f1[1].low == result.macro_f1.low == result.balanced_accuracy.low == 1


def test_point_values_average_seeds_then_draws(random):
    labels, groups, predictions = simulate(random, 40, 3, 2)
    result = classifier_intervals(labels, groups, predictions, 3, n_resamples=50)
    assert result.macro_f1.value == pytest.approx(macro_f1(labels, predictions, 3).mean())
    assert [i.value for i in result.class_f1] == pytest.approx(class_f1(labels, predictions, 3).mean(axis=(0, 1)))
    expected = np.mean([balanced_accuracy_score(labels, p) for p in predictions.reshape(6, -1)])
    assert result.balanced_accuracy.value == pytest.approx(expected)


def test_resamples_equal_a_plain_bootstrap_over_groups(random):
    labels, groups, predictions = simulate(random, 50, 1, 2)
    members = [np.flatnonzero(groups == g) for g in range(50)]
    plain = []
    for _ in range(1500):
        index = np.concatenate([members[g] for g in random.integers(0, 50, 50)])
        plain.append(macro_f1(labels[index], predictions[:, :, index], 3).mean())
    ours = f1_interval(labels, groups, predictions, 3, n_resamples=4000)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.012)


def test_groups_not_images_are_the_unit(random):
    labels, groups, predictions = simulate(random, 40, 1, 1)
    five = f1_interval(np.repeat(labels, 5), np.repeat(groups, 5), np.repeat(predictions, 5, axis=-1), 3)
    assert five == f1_interval(labels, groups, predictions, 3)


def test_draws_widen_the_interval_and_one_draw_is_not_resampled(random):
    labels, groups, predictions = simulate(random, 300, 6, 1, draw_sd=0.8)
    together = f1_interval(labels, groups, predictions, 3)
    single = f1_interval(labels, groups, predictions[:1], 3)
    assert together.high - together.low > 1.3 * (single.high - single.low)
    assert f1_interval(labels, groups, np.repeat(predictions[:1], 2, axis=0), 3).value == pytest.approx(single.value)


@pytest.mark.parametrize("n_draws", [1, 4])
def test_intervals_cover_the_truth(random, n_draws):
    draw_sd = 0.4 if n_draws > 1 else 0.0
    labels, _, predictions = simulate(random, 8000, 60, 1, draw_sd=draw_sd)
    truth = macro_f1(labels, predictions, 3).mean()
    n = 200
    covered = 0
    for i in range(n):
        interval = f1_interval(*simulate(random, 60, n_draws, 2, draw_sd=draw_sd), 3, n_resamples=300, seed=i)
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / n <= 0.995


def test_difference_is_paired(random):
    labels, groups, predictions = simulate(random, 80, 3, 2)
    same = f1_difference(labels, groups, predictions, predictions[:, ::-1], 3)
    assert same.absolute.low == pytest.approx(0) and same.absolute.high == pytest.approx(0)
    better = predictions.copy()
    better[:, :, ::6] = labels[::6]
    difference = f1_difference(labels, groups, predictions, better, 3)
    a, b = macro_f1(labels, predictions, 3).mean(), macro_f1(labels, better, 3).mean()
    assert difference.absolute.value == pytest.approx(b - a)
    assert difference.relative is not None and difference.relative.value == pytest.approx(b / a - 1)
    assert difference.absolute.low > 0 and difference.absolute.excludes_zero
    alone = f1_interval(labels, groups, better, 3)
    assert difference.absolute.high - difference.absolute.low < alone.high - alone.low


def test_numbers_of_seeds_may_differ_and_those_of_draws_may_not(random):
    labels, groups, predictions = simulate(random, 30, 2, 3)
    assert f1_difference(labels, groups, predictions[:, :1], predictions, 3, n_resamples=50).relative is not None
    with pytest.raises(ValueError, match="draws"):
        f1_difference(labels, groups, predictions[:1], predictions, 3)


def test_relative_difference_is_none_where_the_baseline_can_be_zero():
    labels = np.array([0, 1] * 10)
    nothing = f1_difference(labels, np.arange(20), (1 - labels)[None, None], labels[None, None], 2, n_resamples=20)
    assert nothing.relative is None and nothing.absolute.value == 1


def test_one_group_has_no_interval():
    interval = f1_interval(np.array([0, 1, 1]), np.zeros(3, int), np.array([[[0, 1, 0]]]), 2)
    assert interval.value == pytest.approx(2 / 3) and np.isnan(interval.low) and not interval.excludes_zero


def test_seed_decides_and_bad_shapes_are_refused(random):
    labels, groups, predictions = simulate(random, 30, 2, 2)
    assert f1_interval(labels, groups, predictions, 3, seed=1) == f1_interval(labels, groups, predictions, 3, seed=1)
    assert f1_interval(labels, groups, predictions, 3, seed=1) != f1_interval(labels, groups, predictions, 3, seed=2)
    for wrong in (predictions[0], predictions[..., 1:], predictions[:0]):
        with pytest.raises(ValueError, match="predictions"):
            f1_interval(labels, groups, wrong, 3)
    with pytest.raises(ValueError, match="must be 0 to 1"):
        f1_interval(labels, groups, predictions, 2)


def test_full_design_is_fast(random):
    labels, groups, predictions = simulate(random, 130, 5, 5)
    start = time.perf_counter()
    f1_interval(labels, groups, predictions, 3)
    assert time.perf_counter() - start < 2
