import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from simulated_outcomes import BUSI_LIKE, DRAWS_ALIKE, SKILLS, draw_images, predict
from sonosynth.statistics import (
    FixedTestScores,
    RepeatedSplits,
    RepeatedSplitScores,
    class_f1,
    classifier_intervals,
    f1_difference,
    f1_interval,
    jackknife,
    macro_f1,
    macro_f1_jackknife,
    score_difference,
)


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
    result = classifier_intervals(labels, groups, predictions, 4)
    assert result.macro_f1 == f1_interval(labels, groups, predictions, 3)
    assert np.isnan([result.class_f1[3].value, result.class_f1[3].low]).all()
    expected = f1_score(labels, predictions[0, 0], labels=range(3), average="macro")
    assert macro_f1(labels, predictions[0, 0], 4) == pytest.approx(expected)


def test_a_class_of_one_group_has_no_interval():
    labels = np.array([0] * 10 + [1, 1])
    predictions = np.array([0] * 8 + [1, 1, 1, 0])
    groups = np.append(np.arange(10), [10, 10])
    result = classifier_intervals(labels, groups, predictions[None, None], 2)
    assert np.isnan([result.class_f1[1].low, result.macro_f1.low]).all()
    assert 0 < result.class_f1[0].low < result.class_f1[0].value < result.class_f1[0].high < 1
    difference = f1_difference(labels, groups, *np.tile(predictions, (2, 3, 1, 1)), 2)
    assert difference.p_value is None and "one group" in difference.no_p_value_reason


def test_what_never_fails_has_no_interval():
    labels = np.array([0] * 10 + [1] * 10)
    interval = f1_interval(labels, np.arange(20), labels[None, None], 2)
    assert interval.value == 1 and np.isnan([interval.low, interval.high]).all()


def test_point_values_average_seeds_then_draws(random):
    labels, groups, predictions = simulate(random, 40, 3, 2)
    result = classifier_intervals(labels, groups, predictions, 3)
    assert result.macro_f1.value == pytest.approx(macro_f1(labels, predictions, 3).mean())
    assert [i.value for i in result.class_f1] == pytest.approx(class_f1(labels, predictions, 3).mean(axis=(0, 1)))
    expected = np.mean([balanced_accuracy_score(labels, p) for p in predictions.reshape(6, -1)])
    assert result.balanced_accuracy.value == pytest.approx(expected)


def test_standard_error_equals_that_of_a_plain_bootstrap_over_groups(random):
    labels, groups, predictions = simulate(random, 120, 1, 1)
    members = [np.flatnonzero(groups == g) for g in range(120)]
    plain = []
    for _ in range(1500):
        index = np.concatenate([members[g] for g in random.integers(0, 120, 120)])
        plain.append(macro_f1(labels[index], predictions[:, :, index], 3).mean())
    estimate = macro_f1_jackknife(labels, groups, predictions, 3).estimate()
    assert estimate.standard_error == pytest.approx(np.std(plain), rel=0.08)
    assert estimate.degrees_of_freedom == 119


@pytest.mark.parametrize("group_sd", [0.0, 1.0])
def test_a_mean_is_analysed_as_the_two_way_table_it_is(random, group_sd):
    n_draws, n_groups = 5, 30
    table = random.normal(0, 1, (n_groups, n_draws)) + random.normal(0, 0.3, n_draws)
    table += group_sd * random.normal(0, 1, (n_groups, 1))
    ours = jackknife(lambda kept: table[kept].mean(axis=0), np.arange(n_groups)).estimate()
    long = pd.DataFrame({"y": table.ravel(), "g": np.repeat(np.arange(n_groups), n_draws)})
    long["d"] = np.tile(np.arange(n_draws), n_groups)
    anova = anova_lm(ols("y ~ C(d) + C(g)", long).fit())
    of_draws, of_groups, of_rest = (anova["sum_sq"] / anova["df"]).to_numpy()
    excess = max(of_groups - of_rest, 0)
    assert (excess > 0) == bool(group_sd)
    assert ours.value == pytest.approx(table.mean())
    assert ours.standard_error**2 == pytest.approx((of_draws + excess) / (n_draws * n_groups))
    if not group_sd:  # the t test over draws
        assert ours.degrees_of_freedom == n_draws - 1
        assert ours.p_value() == pytest.approx(stats.ttest_1samp(table.mean(axis=0), 0).pvalue)
    else:
        assert n_draws - 1 < ours.degrees_of_freedom < n_groups + n_draws


def test_any_score_can_be_jackknifed(random):
    labels, groups, predictions = simulate(random, 25, 2, 2)

    def score(kept):
        by_run = [f1_score(labels[kept], p[kept], average="macro") for p in predictions.reshape(4, -1)]
        return np.reshape(by_run, (2, 2)).mean(axis=1)

    ours, generic = macro_f1_jackknife(labels, groups, predictions, 3), jackknife(score, groups)
    assert generic.whole == pytest.approx(ours.whole) and generic.left_out == pytest.approx(ours.left_out)


def test_groups_not_images_are_the_unit(random):
    labels, groups, predictions = simulate(random, 40, 1, 1)
    five = f1_interval(np.repeat(labels, 5), np.repeat(groups, 5), np.repeat(predictions, 5, axis=-1), 3)
    assert five == f1_interval(labels, groups, predictions, 3)


def test_three_draws_are_covered_and_two_are_described(random):
    labels, groups, predictions = simulate(random, 300, 6, 1, draw_sd=0.8)
    together, single, pair = (classifier_intervals(labels, groups, predictions[:n], 3) for n in (6, 1, 2))
    assert together.covers == "draws and test groups" and single.covers == pair.covers == "test groups"
    wide, narrow = together.macro_f1, single.macro_f1
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    twice = f1_interval(labels, groups, np.repeat(predictions[:1], 2, axis=0), 3)
    assert [twice.low, twice.high] == pytest.approx([narrow.low, narrow.high])


@pytest.mark.parametrize("n_draws", [1, 4])
def test_intervals_cover_the_truth(random, n_draws):
    draw_sd = 0.4 if n_draws > 1 else 0.0
    labels, _, predictions = simulate(random, 8000, 60, 1, draw_sd=draw_sd)
    truth = macro_f1(labels, predictions, 3).mean()
    n = 500
    covered = 0
    for _ in range(n):
        interval = f1_interval(*simulate(random, 60, n_draws, 2, draw_sd=draw_sd), 3)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / n <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("size", [25, 200])
def test_equal_arms_are_rarely_told_apart(size):
    random, n = np.random.default_rng(size), 400
    ours = plain = 0
    for _ in range(n):
        images = draw_images(random, chance=BUSI_LIKE)
        a, b = predict(random, images, [SKILLS[size]] * 2, size)
        scores = [macro_f1_jackknife(images.labels, images.groups, arm, 3) for arm in (a, b)]
        ours += (scores[1] - scores[0]).estimate().p_value() < 0.05
        runs = macro_f1(images.labels, b, 3) - macro_f1(images.labels, a, 3)
        plain += stats.ttest_1samp(runs.ravel(), 0).pvalue < 0.05
    assert 0.02 < ours / n < 0.08  # 5 % and 2.8 standard errors
    assert plain / n > 0.25  # the outcomes are such that the usual test fails


@pytest.mark.parametrize(("n_draws", "n_seeds"), [(1, 3), (2, 2)])
def test_few_draws_have_intervals_of_other_seeds_too(random, n_draws, n_seeds):
    outside, narrow, n = 0, 0, 300
    for _ in range(n):
        images = draw_images(random, chance=DRAWS_ALIKE)
        a, b = (
            macro_f1_jackknife(images.labels, images.groups, arm, 3)
            for arm in predict(random, images, [SKILLS[25]] * 2, 25, n_draws, n_seeds, DRAWS_ALIKE)
        )
        difference = b - a
        outside += difference.estimate().interval().excludes_zero
        narrow += replace(difference, training=None).estimate().interval().excludes_zero
    assert 0.005 < outside / n < 0.06 < narrow / n


def test_limits_of_a_difference_are_possible_ones():
    """One draw and two seeds that are far apart have next to no degrees of freedom."""
    labels = np.arange(60) % 3
    lucky, unlucky = labels.copy(), (labels + (np.arange(60) % 7 < 5)) % 3
    guessed = np.broadcast_to((labels + (np.arange(60) % 5 < 2)) % 3, (1, 2, 60))
    difference = f1_difference(labels, np.arange(60), guessed, np.stack([lucky, unlucky])[None], 3)
    assert (difference.absolute.low, difference.absolute.high) == (-1, 1) and not difference.absolute.excludes_zero
    assert difference.relative is not None
    assert difference.relative.low == -1 and 1 < difference.relative.high < np.inf


def test_with_one_draw_seeds_and_test_groups_are_the_two_way_table(random):
    labels, groups, predictions = simulate(random, 60, 1, 4)
    ours = macro_f1_jackknife(labels, groups, predictions, 3)
    rows = macro_f1_jackknife(labels, groups, predictions.transpose(1, 0, 2), 3).estimate()  # seeds as draws
    assert ours.estimate().value == pytest.approx(rows.value)
    assert ours.estimate().standard_error == pytest.approx(rows.standard_error)
    assert ours.estimate().degrees_of_freedom == pytest.approx(rows.degrees_of_freedom, rel=0.05)


def test_sums_and_multiples_keep_what_seeds_say(random):
    labels, groups, predictions = simulate(random, 60, 2, 4)
    scores = macro_f1_jackknife(labels, groups, predictions, 3)
    once, twice = scores.estimate(), (2.0 * scores).estimate()
    assert twice.standard_error == pytest.approx(2 * once.standard_error)
    assert twice.degrees_of_freedom == pytest.approx(once.degrees_of_freedom)
    along = scores.along(np.array([1.0, 2.0]))
    assert along.estimate().standard_error == pytest.approx([once.standard_error, twice.standard_error])
    assert along[1].estimate().degrees_of_freedom == pytest.approx(twice.degrees_of_freedom)
    first = scores.of_draws([0]).estimate()
    assert first.standard_error == pytest.approx(
        macro_f1_jackknife(labels, groups, predictions[:1], 3).estimate().standard_error
    )
    assert scores.training is not None
    assert (scores - scores).estimate().standard_error ** 2 == pytest.approx(scores.training[0].sum() / 2)


def test_difference_is_paired(random):
    labels, groups, predictions = simulate(random, 80, 3, 2)
    same = f1_difference(labels, groups, predictions, predictions[:, ::-1], 3)
    assert same.absolute.low == pytest.approx(0) and same.absolute.high == pytest.approx(0)
    assert same.p_value == 1 and same.standardised is None
    better = predictions.copy()
    better[:, :, ::6] = labels[::6]
    difference = f1_difference(labels, groups, predictions, better, 3)
    a, b = macro_f1(labels, predictions, 3).mean(axis=1), macro_f1(labels, better, 3).mean(axis=1)
    assert difference.absolute.value == pytest.approx((b - a).mean())
    assert difference.relative is not None and difference.relative.value == pytest.approx(b.mean() / a.mean() - 1)
    assert difference.by_draw == pytest.approx(b - a)
    assert difference.standardised == pytest.approx((b - a).mean() / (b - a).std(ddof=1) * (1 - 3 / 7))
    assert difference.absolute.low > 0 and difference.absolute.excludes_zero
    alone = f1_interval(labels, groups, better, 3)
    assert difference.absolute.high - difference.absolute.low < alone.high - alone.low


def test_p_value_and_both_intervals_agree(random):
    verdicts = []
    for gain in np.linspace(0, 0.4, 40):
        images = draw_images(random)
        a, b = predict(random, images, [0.6, 0.6 + gain], 100, 4, 2)
        difference = f1_difference(images.labels, images.groups, a, b, 3)
        assert difference.p_value is not None and difference.relative is not None
        verdicts.append(difference.p_value < 0.05)
        assert difference.absolute.excludes_zero == difference.relative.excludes_zero == verdicts[-1]
    assert 5 < sum(verdicts) < 35


def test_relative_interval_where_nothing_is_left_to_contradict():
    labels, groups = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1])
    relative = f1_difference(labels, groups, labels[None, None], np.zeros((1, 1, 6), dtype=int), 3).relative
    assert relative is not None and relative.low == relative.value == relative.high == pytest.approx(1 / 6 - 1)
    splits = RepeatedSplits(tuple(tuple(range(i, i + 5)) for i in range(3)), 15)
    a, b = (RepeatedSplitScores(np.array(by_split), splits) for by_split in ([0.1, 0.2, 0.3], [0.1, 0.1, 0.1]))
    relative = score_difference(a, b).relative  # at -1, where b alone is left, nothing is known
    assert relative is None or relative.low <= relative.value <= relative.high


def test_relative_interval_is_fieller_s(random):
    labels, groups, predictions = simulate(random, 90, 2, 2)
    a, b = (macro_f1_jackknife(labels, groups, p, 3) for p in (predictions[:, :1], predictions[:, 1:]))
    relative = score_difference(a, b).relative
    n, t = 90, stats.t.ppf(0.975, 89)
    pseudo = [n * s.whole.mean() - (n - 1) * s.left_out.mean(axis=1) for s in (a, b)]
    (vaa, vab), (_, vbb) = np.cov(pseudo) / n
    ma, mb = a.whole.mean(), b.whole.mean()
    roots = np.roots([ma**2 - t**2 * vaa, -2 * (ma * mb - t**2 * vab), mb**2 - t**2 * vbb])
    assert relative is not None
    assert [relative.low, relative.high] == pytest.approx(np.sort(roots) - 1, abs=1e-6)


@pytest.mark.parametrize(("n_draws", "words"), [(1, "one draw"), (2, "two draws")])
def test_few_draws_have_no_p_value(random, n_draws, words):
    labels, groups, predictions = simulate(random, 60, n_draws, 2)
    difference = f1_difference(labels, groups, predictions[:, :1], predictions[:, 1:], 3)
    assert difference.p_value is None and difference.standardised is None
    assert difference.no_p_value_reason.startswith(words) and difference.covers == "test groups"
    assert difference.absolute.low < difference.absolute.high and len(difference.by_draw) == n_draws


def test_numbers_of_seeds_may_differ_and_those_of_draws_may_not(random):
    labels, groups, predictions = simulate(random, 30, 2, 3)
    assert f1_difference(labels, groups, predictions[:, :1], predictions, 3).relative is not None
    with pytest.raises(ValueError, match="draws"):
        f1_difference(labels, groups, predictions[:1], predictions, 3)
    a, b = (macro_f1_jackknife(labels[:n], groups[:n], predictions[..., :n], 3) for n in (40, 50))
    with pytest.raises(ValueError, match="pairs"):
        score_difference(a, b)


def test_relative_difference_is_none_where_the_baseline_is_near_zero(random):
    labels = np.array([0, 1] * 10)
    nothing = f1_difference(labels, np.arange(20), (1 - labels)[None, None], labels[None, None], 2)
    assert nothing.relative is None and nothing.absolute.value == 1
    near = FixedTestScores(np.array([0.01]), 0.01 + random.normal(0, 0.01, (20, 1)))
    assert score_difference(near, FixedTestScores(np.array([0.5]), np.full((20, 1), 0.5))).relative is None


def test_one_group_has_no_interval():
    interval = f1_interval(np.array([0, 1, 1]), np.zeros(3, int), np.array([[[0, 1, 0]]]), 2)
    assert interval.value == pytest.approx(2 / 3) and np.isnan(interval.low) and not interval.excludes_zero


def test_bad_shapes_are_refused(random):
    labels, groups, predictions = simulate(random, 30, 2, 2)
    for wrong in (predictions[0], predictions[..., 1:], predictions[:0]):
        with pytest.raises(ValueError, match="predictions"):
            f1_interval(labels, groups, wrong, 3)
    with pytest.raises(ValueError, match="must be 0 to 1"):
        f1_interval(labels, groups, predictions, 2)
    with pytest.raises(ValueError, match="do not fit"):
        FixedTestScores(np.zeros(3), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="one value"):
        FixedTestScores(np.zeros((3, 2)), np.zeros((5, 3, 2))).estimate().interval()


def test_full_design_is_fast(random):
    labels, groups, predictions = simulate(random, 130, 5, 5)
    start = time.perf_counter()
    for _ in range(10):
        f1_interval(labels, groups, predictions, 3)
    assert time.perf_counter() - start < 2
