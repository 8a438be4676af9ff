"""The uncertainty of a score over draws, seeds and groups of one fixed test set."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import f1_score
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from f1_scores import macro_f1_interval, macro_f1_scores, simulate
from simulated_outcomes import BUSI_LIKE, DRAWS_ALIKE, SKILLS, draw_images, macro_f1, predict
from sonosynth.statistics.f1 import f1_intervals, fixed_test_f1
from sonosynth.statistics.scores import FixedTestScores


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def test_standard_error_equals_that_of_a_plain_bootstrap_over_groups(random):
    labels, groups, predictions = simulate(random, 120, 1, 1)
    members = [np.flatnonzero(groups == g) for g in range(120)]
    plain = []
    for _ in range(1500):
        index = np.concatenate([members[g] for g in random.integers(0, 120, 120)])
        plain.append(macro_f1(labels[index], predictions[:, :, index], 3).mean())
    estimate = macro_f1_scores(labels, groups, predictions, 3).estimate()
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


def jackknife(score, groups) -> FixedTestScores:
    """Return `score`, which takes the numbers of the images that stay, with each group left out."""
    left_out = [score(np.flatnonzero(groups != group)) for group in np.unique(groups)]
    return FixedTestScores(score(np.arange(len(groups))), np.stack(left_out))


def test_f1_left_out_is_that_of_scikit_learn_without_the_group(random):
    labels, groups, predictions = simulate(random, 25, 2, 2)

    def score(kept):
        by_run = [f1_score(labels[kept], p[kept], average="macro") for p in predictions.reshape(4, -1)]
        return np.reshape(by_run, (2, 2)).mean(axis=1)

    ours, generic = macro_f1_scores(labels, groups, predictions, 3), jackknife(score, groups)
    assert generic.whole == pytest.approx(ours.whole) and generic.left_out == pytest.approx(ours.left_out)


def test_groups_not_images_are_the_unit(random):
    labels, groups, predictions = simulate(random, 40, 1, 1)
    five = macro_f1_interval(np.repeat(labels, 5), np.repeat(groups, 5), np.repeat(predictions, 5, axis=-1), 3)
    assert five == macro_f1_interval(labels, groups, predictions, 3)


def test_three_draws_are_covered_and_two_are_described(random):
    labels, groups, predictions = simulate(random, 300, 6, 1, draw_sd=0.8)
    together, single, pair = (f1_intervals(fixed_test_f1(labels, groups, predictions[:n], 3)) for n in (6, 1, 2))
    assert together.covers == "draws and test groups" and single.covers == pair.covers == "test groups"
    wide, narrow = together.macro_f1, single.macro_f1
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    twice = macro_f1_interval(labels, groups, np.repeat(predictions[:1], 2, axis=0), 3)
    assert [twice.low, twice.high] == pytest.approx([narrow.low, narrow.high])


@pytest.mark.parametrize("n_draws", [1, 4])
def test_intervals_cover_the_truth(random, n_draws):
    draw_sd = 0.4 if n_draws > 1 else 0.0
    labels, _, predictions = simulate(random, 8000, 60, 1, draw_sd=draw_sd)
    truth = macro_f1(labels, predictions, 3).mean()
    n = 500
    covered = 0
    for _ in range(n):
        interval = macro_f1_interval(*simulate(random, 60, n_draws, 2, draw_sd=draw_sd), 3)
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
        scores = [macro_f1_scores(images.labels, images.groups, arm, 3) for arm in (a, b)]
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
            macro_f1_scores(images.labels, images.groups, arm, 3)
            for arm in predict(random, images, [SKILLS[25]] * 2, 25, n_draws, n_seeds, DRAWS_ALIKE)
        )
        difference = b - a
        outside += difference.estimate().interval().excludes_zero
        narrow += replace(difference, training=None).estimate().interval().excludes_zero
    assert 0.005 < outside / n < 0.06 < narrow / n


def test_with_one_draw_seeds_and_test_groups_are_the_two_way_table(random):
    labels, groups, predictions = simulate(random, 60, 1, 4)
    ours = macro_f1_scores(labels, groups, predictions, 3)
    rows = macro_f1_scores(labels, groups, predictions.transpose(1, 0, 2), 3).estimate()  # seeds as draws
    assert ours.estimate().value == pytest.approx(rows.value)
    assert ours.estimate().standard_error == pytest.approx(rows.standard_error)
    assert ours.estimate().degrees_of_freedom == pytest.approx(rows.degrees_of_freedom, rel=0.05)


def test_sums_and_multiples_keep_what_seeds_say(random):
    labels, groups, predictions = simulate(random, 60, 2, 4)
    scores = macro_f1_scores(labels, groups, predictions, 3)
    once, twice = scores.estimate(), (scores * 2.0).estimate()
    assert twice.standard_error == pytest.approx(2 * once.standard_error)
    assert twice.degrees_of_freedom == pytest.approx(once.degrees_of_freedom)
    along = scores[None] * np.array([1.0, 2.0])
    assert along.estimate().standard_error == pytest.approx([once.standard_error, twice.standard_error])
    assert along[1].estimate().degrees_of_freedom == pytest.approx(twice.degrees_of_freedom)
    first = scores.of_draws([0]).estimate()
    assert first.standard_error == pytest.approx(
        macro_f1_scores(labels, groups, predictions[:1], 3).estimate().standard_error
    )
    assert scores.training is not None
    assert (scores - scores).estimate().standard_error ** 2 == pytest.approx(scores.training[0].sum() / 2)
