from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from sonosynth.core.errors import ClassError
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.diversity.precision_recall import METRICS, adapted_k, prdc

NAMES = ("precision", "recall", "density", "coverage")


def features(n: int, dimension: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimension)) + shift


def intervals(x, y, groups_x=None, groups_y=None, seed=0):
    return METRICS[0].interval(replace(Comparison.of_features(x, y, groups_x, groups_y), root_seed=seed), None)


def test_has_the_values_of_prdc_through_every_function():
    x, y = features(120, 20, 0), 0.9 * features(90, 20, 1, 0.3)
    expected = compute_prdc(x, y, 5)
    for name in NAMES:
        assert prdc(x, y)[name] == pytest.approx(expected[name], rel=1e-12)
    assert prdc(x, y, k=3)["precision"] == pytest.approx(compute_prdc(x, y, 3)["precision"], rel=1e-12)


@pytest.mark.long
@settings(max_examples=30, deadline=None)
@given(st.integers(9, 60), st.integers(9, 60), st.integers(1, 40), st.integers(1, 7), st.integers(0, 99))
def test_agrees_with_prdc(n, m, dimension, k, seed):
    x, y = features(n, dimension, seed), features(m, dimension, seed + 1, 0.3)
    assert prdc(x, y, k) == pytest.approx(compute_prdc(x, y, k), rel=1e-12)


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_agrees_with_prdc_where_distances_are_tied(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (40, 3)).astype(float), rng.integers(0, 4, (30, 3)).astype(float)
    assert prdc(x, y) == pytest.approx(compute_prdc(x, y, 5), rel=1e-12)


def test_a_set_against_its_copy():
    x = features(100, 300, 0)
    assert prdc(x, x.copy()) == dict.fromkeys(NAMES, 1.0)


def test_each_fault_lowers_the_measure_that_is_meant_for_it():
    real, other = features(300, 8, 0), features(300, 8, 1)
    collapsed = real[:3].repeat(100, axis=0) + 0.1 * other
    far = np.where(np.arange(300)[:, None] < 150, other + 20, other)
    fair = prdc(real, other)
    assert min(fair["precision"], fair["recall"], fair["coverage"]) > 0.85
    few = prdc(real, collapsed)
    assert few["precision"] > 0.95
    assert few["recall"] < 0.1
    assert few["coverage"] < 0.25
    half = prdc(real, far)
    assert half["precision"] == pytest.approx(fair["precision"] / 2, abs=0.06)
    assert half["density"] == pytest.approx(fair["density"] / 2, abs=0.1)


@pytest.mark.parametrize(("n", "m", "used"), [(6, 6, 5), (5, 9, 4), (9, 3, 2), (2, 2, 1)])
def test_k_shrinks_with_the_smaller_set(n, m, used):
    x, y = features(n, 4, 0), features(m, 4, 1)
    assert adapted_k(n, m) == used
    assert prdc(x, y) == prdc(x, y, k=used)


def test_rows_are_chosen_by_their_indices():
    x, y = features(60, 5, 0), features(50, 5, 1)
    c = Comparison.of_features(x, y)
    chosen = METRICS[0].value(c.draw(c.synthetic[10:40], c.real[::2], c.held_out))
    assert {name: value.value for name, value in chosen.items()} == prdc(y[10:40], x[::2])


def test_too_few_images_are_refused():
    with pytest.raises(ClassError, match="1 and 5 images"):
        prdc(features(1, 4, 0), features(5, 4, 1))


class TestIntervals:
    @pytest.mark.long
    def test_cover_the_expected_values_at_this_size(self):
        pairs = [(features(40, 8, 2 * s), 0.9 * features(50, 8, 2 * s + 1, 0.3)) for s in range(100)]
        values = [prdc(x, y) for x, y in pairs]
        found = [intervals(x, y, seed=s) for s, (x, y) in enumerate(pairs)]
        for name in NAMES:
            expected = np.mean([value[name] for value in values])
            limits = np.array([one[name] for one in found])
            assert 0.86 <= ((limits[:, 0] <= expected) & (expected <= limits[:, 1])).mean() <= 0.995
            # Intervals that are simply wide would pass too.
            spread = np.std([value[name] for value in values])
            assert (limits[:, 1] - limits[:, 0]).mean() < 2 * 1.96 * spread * 1.5

    @pytest.mark.long
    def test_of_density_hold_with_few_images_per_class(self):
        """Halves of 12 or 13 images of each class have six: five neighbours would reach through all of a class."""

        def drawn(n: int, seed: int) -> np.ndarray:
            return features(n, 8, seed) + 20 * (np.arange(n) < n / 2)[:, None]

        pairs = [(drawn(25, 2 * s), drawn(100, 2 * s + 1)) for s in range(100)]
        expected = np.mean([prdc(x, y)["density"] for x, y in pairs])
        limits = np.array([intervals(x, y, seed=s)["density"] for s, (x, y) in enumerate(pairs)])
        assert ((limits[:, 0] <= expected) & (expected <= limits[:, 1])).mean() >= 0.85

    @pytest.mark.long
    def test_of_precision_hold_with_few_images_of_classes_that_are_far_apart(self):
        def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
            labels = np.arange(n) % 3
            return features(n, 8, seed) + 40 * labels[:, None], labels

        values, limits = [], []
        for s in range(60):
            (x, of_x), (y, of_y) = drawn(24, 2 * s), drawn(90, 2 * s + 1)
            space = Space("f", np.concatenate([x, y]), np.arange(114), labels=np.concatenate([of_x, of_y]))
            real, synthetic = np.split(np.arange(114), [24])
            c = Comparison(space, "train", "all", real, synthetic, real[:0], real, s)
            values.append(prdc(x, y)["precision"])
            limits.append(METRICS[0].interval(c, {})["precision"])
        low, high = np.array(limits).T
        assert ((low <= np.mean(values)) & (np.mean(values) <= high)).mean() >= 0.85

    @pytest.mark.long
    def test_of_recall_are_as_short_as_the_images_of_groups_allow(self):
        """Images of one group have half of their variance in common, and say more than one image."""

        def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
            x = features(100, 8, 3 * seed)[np.arange(100) // 4] + features(100, 8, 3 * seed + 1)
            return x, np.sqrt(2) * features(100, 8, 3 * seed + 2)

        pairs = [drawn(seed) for seed in range(60)]
        values = np.array([prdc(x, y)["recall"] for x, y in pairs])
        limits = np.array([intervals(x, y, np.arange(100) // 4, seed=s)["recall"] for s, (x, y) in enumerate(pairs)])
        assert ((limits[:, 0] <= values.mean()) & (values.mean() <= limits[:, 1])).mean() >= 0.88
        assert np.diff(limits).mean() < 1.6 * 2 * 1.96 * values.std(ddof=1)

    def test_repeat_by_seed(self):
        x, y = features(40, 6, 0), features(30, 6, 1)
        found = intervals(x, y, seed=3)
        assert intervals(x, y, seed=3) == found
        other = intervals(x, y, seed=4)
        assert all(found[name] != other[name] for name in NAMES)

    def test_stay_in_range_and_have_a_length_at_their_ends(self):
        x = features(40, 6, 0)
        apart, inside = intervals(x, x + 100), intervals(x, 0.01 * features(40, 6, 1))
        assert apart["precision"] == apart["recall"] == apart["coverage"]
        assert apart["precision"] == pytest.approx((0, 0.093), abs=0.002)
        assert apart["density"] == (0, 0)
        assert inside["precision"] == pytest.approx((0.907, 1), abs=0.002)
        assert inside["density"][0] > 1

    def test_images_of_one_group_count_as_one(self):
        one, y = features(20, 8, 0), features(80, 8, 1)
        x = np.repeat(one, 4, axis=0) + 0.02 * features(80, 8, 2)
        whole, alone = (
            [intervals(x, y, groups, seed=seed) for seed in range(5)] for groups in (np.repeat(np.arange(20), 4), None)
        )
        for name in ("recall", "coverage", "density"):
            together, apart = (np.mean([np.diff(found[name]) for found in each]) for each in (whole, alone))
            assert together > 1.3 * apart

    def test_none_with_few_groups(self):
        x, y = features(20, 5, 0), features(20, 5, 1)
        assert intervals(x, y, groups_y=np.arange(20) % 4) == {}
        assert set(intervals(x, y, groups_y=np.arange(20) % 5)) == set(NAMES)
