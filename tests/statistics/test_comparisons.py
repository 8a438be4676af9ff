"""Paired differences, McNemar's test clustered by group, and Holm's correction."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from f1_scores import macro_f1_difference, macro_f1_interval, macro_f1_scores, simulate
from simulated_outcomes import SINGLE_PAIR, draw_images, macro_f1, predict
from sonosynth.statistics.comparisons import clustered_mcnemar, holm, score_difference
from sonosynth.statistics.scores import FixedTestScores, RepeatedSplits, RepeatedSplitScores


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def test_limits_of_a_difference_are_possible_ones():
    """One draw and two seeds that are far apart have next to no degrees of freedom."""
    labels = np.arange(60) % 3
    lucky, unlucky = labels.copy(), (labels + (np.arange(60) % 7 < 5)) % 3
    guessed = np.broadcast_to((labels + (np.arange(60) % 5 < 2)) % 3, (1, 2, 60))
    difference = macro_f1_difference(labels, np.arange(60), guessed, np.stack([lucky, unlucky])[None], 3)
    assert (difference.absolute.low, difference.absolute.high) == (-1, 1) and not difference.absolute.excludes_zero
    assert difference.relative is not None
    assert difference.relative.low == -1 and 1 < difference.relative.high < np.inf


def test_difference_is_paired(random):
    labels, groups, predictions = simulate(random, 80, 3, 2)
    same = macro_f1_difference(labels, groups, predictions, predictions[:, ::-1], 3)
    assert same.absolute.low == pytest.approx(0) and same.absolute.high == pytest.approx(0)
    assert same.p_value == 1 and same.standardised is None
    better = predictions.copy()
    better[:, :, ::6] = labels[::6]
    difference = macro_f1_difference(labels, groups, predictions, better, 3)
    a, b = macro_f1(labels, predictions, 3).mean(axis=1), macro_f1(labels, better, 3).mean(axis=1)
    assert difference.absolute.value == pytest.approx((b - a).mean())
    assert difference.relative is not None and difference.relative.value == pytest.approx(b.mean() / a.mean() - 1)
    assert difference.by_draw == pytest.approx(b - a)
    assert difference.standardised == pytest.approx((b - a).mean() / (b - a).std(ddof=1) * (1 - 3 / 7))
    assert difference.absolute.low > 0 and difference.absolute.excludes_zero
    alone = macro_f1_interval(labels, groups, better, 3)
    assert difference.absolute.high - difference.absolute.low < alone.high - alone.low


def test_p_value_and_both_intervals_agree(random):
    verdicts = []
    for gain in np.linspace(0, 0.4, 40):
        images = draw_images(random)
        a, b = predict(random, images, [0.6, 0.6 + gain], 100, 4, 2)
        difference = macro_f1_difference(images.labels, images.groups, a, b, 3)
        assert difference.p_value is not None and difference.relative is not None
        verdicts.append(difference.p_value < 0.05)
        assert difference.absolute.excludes_zero == difference.relative.excludes_zero == verdicts[-1]
    assert 5 < sum(verdicts) < 35


def test_relative_interval_where_nothing_is_left_to_contradict():
    labels, groups = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1])
    relative = macro_f1_difference(labels, groups, labels[None, None], np.zeros((1, 1, 6), dtype=int), 3).relative
    assert relative is not None and relative.low == relative.value == relative.high == pytest.approx(1 / 6 - 1)
    splits = RepeatedSplits(tuple(tuple(range(i, i + 5)) for i in range(3)), 15)
    a, b = (RepeatedSplitScores(np.array(by_split), splits) for by_split in ([0.1, 0.2, 0.3], [0.1, 0.1, 0.1]))
    relative = score_difference(a, b).relative  # at -1, where b alone is left, nothing is known
    assert relative is None or relative.low <= relative.value <= relative.high


def test_relative_interval_is_fieller_s(random):
    labels, groups, predictions = simulate(random, 90, 2, 2)
    a, b = (macro_f1_scores(labels, groups, p, 3) for p in (predictions[:, :1], predictions[:, 1:]))
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
    difference = macro_f1_difference(labels, groups, predictions[:, :1], predictions[:, 1:], 3)
    assert difference.p_value is None and difference.standardised is None
    assert difference.no_p_value_reason.startswith(words) and difference.covers == "test groups"
    assert difference.absolute.low < difference.absolute.high and len(difference.by_draw) == n_draws


def test_numbers_of_seeds_may_differ_and_those_of_draws_may_not(random):
    labels, groups, predictions = simulate(random, 30, 2, 3)
    assert macro_f1_difference(labels, groups, predictions[:, :1], predictions, 3).relative is not None
    with pytest.raises(ValueError, match="draws"):
        macro_f1_difference(labels, groups, predictions[:1], predictions, 3)
    a, b = (macro_f1_scores(labels[:n], groups[:n], predictions[..., :n], 3) for n in (40, 50))
    with pytest.raises(ValueError, match="pairs"):
        score_difference(a, b)


def test_relative_difference_is_none_where_the_baseline_is_near_zero(random):
    labels = np.array([0, 1] * 10)
    nothing = macro_f1_difference(labels, np.arange(20), (1 - labels)[None, None], labels[None, None], 2)
    assert nothing.relative is None and nothing.absolute.value == 1
    near = FixedTestScores(np.array([0.01]), 0.01 + random.normal(0, 0.01, (20, 1)))
    assert score_difference(near, FixedTestScores(np.array([0.5]), np.full((20, 1), 0.5))).relative is None


def pair(random, n, accuracy_a, accuracy_b):
    labels = random.integers(0, 3, n)
    return labels, *(np.where(random.random(n) < share, labels, (labels + 1) % 3) for share in (accuracy_a, accuracy_b))


@pytest.mark.parametrize(("n", "exact"), [(30, True), (300, False)])
def test_mcnemar_of_single_images_agrees_with_statsmodels(n, exact):
    labels, a, b = pair(np.random.default_rng(n), n, 0.6, 0.75)
    ours = clustered_mcnemar(labels, np.arange(n), a, b)
    table = [[np.sum(((a == labels) == x) & ((b == labels) == y)) for y in (True, False)] for x in (True, False)]
    theirs = mcnemar(table, exact=exact, correction=False)
    assert ours.exact == exact and (ours.only_a, ours.only_b) == (table[0][1], table[1][0])
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.difference == pytest.approx(np.mean(b == labels) - np.mean(a == labels))


def test_exact_mcnemar_is_the_share_of_signs():
    random = np.random.default_rng(2)
    labels, a, b = pair(random, 40, 0.5, 0.7)
    groups = random.integers(0, 12, 40)
    change = np.array([((b == labels).astype(int) - (a == labels))[groups == g].sum() for g in np.unique(groups)])
    sums = [np.dot(signs, change) for signs in itertools.product([-1, 1], repeat=len(change))]
    ours = clustered_mcnemar(labels, groups, a, b)
    assert ours.exact and ours.groups == (change != 0).sum()
    assert ours.p_value == pytest.approx(np.mean(np.abs(sums) >= abs(change.sum())))


def test_repeating_images_within_groups_is_no_evidence():
    labels, a, b = pair(np.random.default_rng(4), 200, 0.6, 0.7)
    once = clustered_mcnemar(labels, np.arange(200), a, b)
    four = clustered_mcnemar(*(np.repeat(x, 4) for x in (labels, np.arange(200), a, b)))
    assert four.p_value == pytest.approx(once.p_value) and four.only_b == 4 * once.only_b


def test_mcnemar_holds_its_level_for_two_networks():
    random, n = np.random.default_rng(5), 600
    clustered = 0
    for _ in range(n):
        images = draw_images(random, n=195, chance=SINGLE_PAIR)
        groups = images.groups // 4  # larger groups
        (a,), (b,) = predict(random, images, [0.5, 0.5], 50, 1, 1, SINGLE_PAIR)[:, 0]
        clustered += clustered_mcnemar(images.labels, groups, a, b).p_value < 0.05
    assert 0.025 < clustered / n < 0.075


def test_mcnemar_is_of_single_classifiers():
    labels, a, b = pair(np.random.default_rng(6), 20, 0.5, 0.5)
    with pytest.raises(ValueError, match="n_test"):
        clustered_mcnemar(labels, np.arange(20), a[None], b[None])
    same = clustered_mcnemar(labels, np.arange(20), a, a)
    assert same.p_value == 1 and same.statistic == 0 and same.groups == 0


@pytest.mark.long
def test_holm_agrees_with_statsmodels():
    random = np.random.default_rng(10)
    for n in (1, 2, 7, 12):
        p = random.random(n) ** 3
        p[n // 2] = p[0]  # ties
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == ()
    for wrong in ([0.1, np.nan], [1.2], [[0.1]]):
        with pytest.raises(ValueError, match="p-values"):
            holm(wrong)
