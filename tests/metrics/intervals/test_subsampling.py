import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sonosynth.metrics.intervals.subsampling import sample_groups, sample_n, split_half

GROUPS = st.lists(st.integers(0, 12), min_size=1, max_size=60).map(lambda g: np.array(g, dtype=np.int64))


@given(GROUPS, st.integers(0, 60), st.integers(0, 9))
def test_whole_groups_are_whole_distinct_and_fit(groups, count, seed):
    chosen = sample_groups(groups, count, np.random.default_rng(seed))
    assert len(chosen) <= count
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == np.isin(groups, groups[chosen]).sum()


@given(GROUPS, st.integers(0, 60), st.integers(0, 9))
def test_exactly_cuts_one_group_at_most(groups, count, seed):
    chosen = sample_n(groups, count, np.random.default_rng(seed))
    assert len(chosen) == min(count, len(groups))
    assert (np.diff(chosen) > 0).all()
    cut = [g for g in np.unique(groups[chosen]) if (groups[chosen] == g).sum() < (groups == g).sum()]
    assert len(cut) <= 1


@given(GROUPS, st.integers(0, 9))
def test_halves_share_no_group_and_leave_nothing_out(groups, seed):
    first, second = split_half(groups, np.random.default_rng(seed))
    assert not set(groups[first]) & set(groups[second])
    assert sorted([*first, *second]) == list(range(len(groups)))
    assert abs(len(first) - len(second)) <= np.bincount(groups).max()


def test_every_image_is_drawn_about_equally_often():
    groups = np.repeat(np.arange(20), [1, 2] * 10)
    rng = np.random.default_rng(0)
    drawn = np.zeros(30)
    for _ in range(2000):
        drawn[sample_groups(groups, 24, rng)] += 1
    assert drawn.min() / 2000 > 0.75
    assert drawn.max() / 2000 < 0.85
