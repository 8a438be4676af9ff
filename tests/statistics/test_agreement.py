"""Kappas against other implementations."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as expected_fleiss

from sonosynth.statistics.agreement import cohen_kappa, fleiss_kappa


@pytest.mark.parametrize("weighted", [False, True])
def test_cohens_kappa_is_that_of_scikit_learn(weighted):
    rng = np.random.default_rng(0)
    a = rng.integers(1, 7, 80)
    b = np.clip(a + rng.integers(-1, 2, 80), 1, 6)
    expected = cohen_kappa_score(a, b, weights="quadratic" if weighted else None)
    assert cohen_kappa(a, b, weighted=weighted) == pytest.approx(expected)


def test_fleiss_kappa_is_that_of_statsmodels():
    ratings = np.random.default_rng(1).integers(0, 3, (4, 50))
    assert fleiss_kappa(ratings) == pytest.approx(expected_fleiss(aggregate_raters(ratings.T)[0]))


def test_kappa_is_none_where_chance_always_agrees():
    assert cohen_kappa(np.ones(5), np.ones(5)) is None
    assert fleiss_kappa(np.ones((3, 5))) is None


def test_kappa_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        cohen_kappa(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="two readers"):
        fleiss_kappa(np.ones((1, 5)))
