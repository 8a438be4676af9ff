import itertools

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from simulated_outcomes import SINGLE_PAIR, draw_images, predict
from sonosynth.statistics import clustered_mcnemar, holm


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
