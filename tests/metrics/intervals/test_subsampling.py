import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonosynth.metrics.intervals.subsampling import (
    SamplingUnits,
    one_per_group,
    sample_groups,
    split_half,
    stratified_counts,
)

GROUPS = st.lists(st.integers(0, 12), min_size=1, max_size=60).map(lambda g: np.array(g, dtype=np.int64))
SHARES = st.floats(0, 1)


@given(GROUPS, SHARES, st.integers(0, 9))
def test_whole_groups_are_drawn_as_near_to_the_share_as_one_group_allows(groups, share, seed):
    chosen = sample_groups(SamplingUnits.of(groups), share, np.random.default_rng(seed))
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == np.isin(groups, groups[chosen]).sum()
    assert abs(len(chosen) - share * len(groups)) <= np.bincount(groups).max()


@given(GROUPS, st.integers(0, 9))
def test_halves_share_no_group_and_leave_nothing_out(groups, seed):
    first, second = split_half(SamplingUnits.of(groups), np.random.default_rng(seed))
    assert not set(groups[first]) & set(groups[second])
    assert sorted([*first, *second]) == list(range(len(groups)))
    assert abs(len(first) - len(second)) <= np.bincount(groups).max()


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(1, 3), st.integers(0, 9))
def test_halves_have_the_classes_of_the_whole(labels, per_group, seed):
    labels = np.repeat(np.sort(labels), per_group)
    groups = np.arange(len(labels)) // per_group
    first, second = split_half(SamplingUnits.of(groups, labels), np.random.default_rng(seed))
    for label in np.unique(labels):
        counts = [(labels[side] == label).sum() for side in (first, second)]
        assert abs(counts[0] - counts[1]) <= per_group
    assert abs(len(first) - len(second)) <= per_group


def test_large_groups_are_drawn_as_often_as_small_ones():
    groups = np.repeat(np.arange(20), [1, 4] * 10)
    units, rng = SamplingUnits.of(groups), np.random.default_rng(0)
    drawn = np.zeros(20)
    for _ in range(3000):
        drawn[np.unique(groups[sample_groups(units, 0.4, rng)])] += 1 / 3000
    assert drawn[::2].mean() == pytest.approx(drawn[1::2].mean(), abs=0.03)
    assert drawn.mean() == pytest.approx(0.4, abs=0.03)


def test_a_group_of_two_classes_is_of_the_class_it_has_most_images_of():
    groups, labels = np.array([0, 0, 0, 1, 1]), np.array([2, 5, 5, 2, 2])
    assert SamplingUnits.of(groups, labels).strata.tolist() == [5, 2]
    seen = {tuple(one_per_group(groups, labels, np.random.default_rng(seed))) for seed in range(30)}
    assert seen == {(i, j) for i in (1, 2) for j in (3, 4)}


def test_counts_by_class_add_up_and_keep_the_proportions():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    assert stratified_counts(labels, 3, 10).tolist() == [5, 3, 2]
    for n in range(1, 40):
        counts = stratified_counts(labels, 3, n)
        assert counts.sum() == n
        assert np.abs(counts - n * np.array([0.5, 0.3, 0.2])).max() < 1


def test_parts_keep_groups_and_classes():
    units = SamplingUnits.of(np.array([4, 4, 7, 9, 9, 9]), np.array([0, 0, 1, 1, 1, 1]))
    part = units.part(np.array([2, 3, 4, 5]))
    assert (part.number.tolist(), part.sizes.tolist(), part.strata.tolist()) == ([0, 1, 1, 1], [1, 3], [1, 1])
