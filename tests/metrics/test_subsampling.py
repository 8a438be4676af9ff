import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonosynth.metrics.subsampling import exactly, halves, subsampling_interval, whole_groups

GROUPS = st.lists(st.integers(0, 12), min_size=1, max_size=60).map(lambda g: np.array(g, dtype=np.int64))


@given(GROUPS, st.integers(0, 60), st.integers(0, 9))
def test_whole_groups_are_whole_distinct_and_fit(groups, count, seed):
    chosen = whole_groups(groups, count, np.random.default_rng(seed))
    assert len(chosen) <= count
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == np.isin(groups, groups[chosen]).sum()


@given(GROUPS, st.integers(0, 60), st.integers(0, 9))
def test_exactly_cuts_one_group_at_most(groups, count, seed):
    chosen = exactly(groups, count, np.random.default_rng(seed))
    assert len(chosen) == min(count, len(groups))
    assert (np.diff(chosen) > 0).all()
    cut = [g for g in np.unique(groups[chosen]) if (groups[chosen] == g).sum() < (groups == g).sum()]
    assert len(cut) <= 1


@given(GROUPS, st.integers(0, 9))
def test_halves_share_no_group_and_leave_nothing_out(groups, seed):
    first, second = halves(groups, np.random.default_rng(seed))
    assert not set(groups[first]) & set(groups[second])
    assert sorted([*first, *second]) == list(range(len(groups)))
    assert abs(len(first) - len(second)) <= np.bincount(groups).max()


def test_every_image_is_drawn_about_equally_often():
    groups = np.repeat(np.arange(20), [1, 2] * 10)
    rng = np.random.default_rng(0)
    drawn = np.zeros(30)
    for _ in range(2000):
        drawn[whole_groups(groups, 24, rng)] += 1
    assert drawn.min() / 2000 > 0.75
    assert drawn.max() / 2000 < 0.85


@pytest.mark.parametrize("n", [20, 200])
def test_gives_the_textbook_interval_of_a_difference_of_means(n):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal(n), 2 * rng.standard_normal(n) + 1
    index = np.arange(n)
    low, high = subsampling_interval(
        x.mean() - y.mean(), lambda i, j: x[i].mean() - y[j].mean(), index, index, rng, draws=3000
    )
    error = np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / n)
    reach = (2.093 if n == 20 else 1.972) * error
    assert (low + high) / 2 == pytest.approx(x.mean() - y.mean(), abs=1e-12)
    assert (high - low) / 2 == pytest.approx(reach, rel=0.06)
