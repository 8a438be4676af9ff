from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from sonosynth.metrics.intervals import split_half as module
from sonosynth.metrics.intervals.split_half import (
    Proportion,
    Statistics,
    of_each,
    split_half_interval,
    split_half_intervals,
)
from sonosynth.metrics.intervals.subsampling import SamplingUnits


def units(*groups: np.ndarray) -> tuple[SamplingUnits, ...]:
    return tuple(map(SamplingUnits.of, groups))


def interval(hits: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> tuple[float, float]:
    index = np.arange(len(hits))
    both = units(index if groups is None else groups, index)
    share = {"share": Proportion(of_first=True)}
    rng = np.random.default_rng(seed)
    return split_half_intervals(lambda i, j: {"share": hits[i].mean()}, share, both, rng)["share"]


@pytest.fixture
def many(monkeypatch):
    """Four times as many halvings, for values that are known exactly."""
    monkeypatch.setattr(module, "DRAWS", 400)


@pytest.mark.parametrize("count", [4, 100, 170, 200])
def test_is_the_wilson_interval_of_a_plain_share(count, many):
    hits = np.random.default_rng(0).permutation(np.arange(200) < count).astype(float)
    expected = binomtest(count, 200).proportion_ci(method="wilson")
    assert interval(hits) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_images_of_one_group_count_as_one(many):
    hits = np.repeat(np.random.default_rng(0).random(100) < 0.7, 4).astype(float)
    expected = binomtest(int(hits[::4].sum()), 100).proportion_ci(method="wilson")
    found = interval(hits, np.repeat(np.arange(100), 4))
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)


def test_images_that_differ_within_their_groups_count_as_many(many):
    """Groups whose images have nothing in common are worth as many images as there are, not as many as groups."""
    hits = (np.random.default_rng(0).random(200) < 0.7).astype(float)
    expected = binomtest(int(hits.sum()), 200).proportion_ci(method="wilson")
    assert interval(hits, np.arange(200) // 4) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_images_that_are_all_alike_count_as_groups():
    expected = binomtest(25, 25).proportion_ci(method="wilson")
    assert interval(np.ones(100), np.arange(100) // 4) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_groups_of_unequal_size_are_weighed():
    rng = np.random.default_rng(0)
    sizes = np.array([40, 30] + [1] * 130)
    hits = np.repeat(rng.random(132) < 0.6, sizes).astype(float)
    low, high = interval(hits, np.repeat(np.arange(132), sizes))
    plain = interval(hits)
    assert high - low > 1.5 * (plain[1] - plain[0])


def test_repeats_by_seed():
    hits = (np.random.default_rng(0).random(60) < 0.7).astype(float)
    assert interval(hits, seed=1) == interval(hits, seed=1) != interval(hits, seed=2)


def test_none_with_few_groups():
    hits = np.ones(20)
    index = np.arange(20)
    for groups in (units(index % 4, index), units(index, index % 4)):
        assert split_half_intervals(lambda i, j: {}, {"share": Proportion(of_first=True)}, groups, None) == {}
    assert interval(hits, index % 5) == pytest.approx((0.39, 1), abs=0.01)


def test_divergence_near_its_bound_is_covered():
    rng = np.random.default_rng(0)
    index = np.arange(50)
    shares = {"as divergence": Proportion(of_first=True, divergence=True), "as share": Proportion(of_first=True)}
    values, found = [], []
    for seed in range(150):
        x = rng.standard_normal(50)
        values.append(1 - abs(x.mean()))
        found.append(
            split_half_intervals(
                lambda i, j, x=x: dict.fromkeys(shares, 1 - abs(x[i].mean())),
                shares,
                units(index, index),
                np.random.default_rng(seed),
            )
        )
    covered = {name: np.mean([one[name][0] <= np.mean(values) <= one[name][1] for one in found]) for name in shares}
    assert covered["as divergence"] > 0.9
    assert covered["as share"] < covered["as divergence"] - 0.03


@pytest.mark.slow
class TestOfDistances:
    @pytest.mark.parametrize("extrapolate", [False, True])
    @pytest.mark.parametrize("n", [20, 200])
    def test_is_the_textbook_interval_of_a_difference_of_means(self, n, extrapolate):
        rng = np.random.default_rng(n)
        x, y = rng.standard_normal(n), 2 * rng.standard_normal(n) + 1
        groups = units(np.arange(n), np.arange(n))
        value = x.mean() - y.mean()
        found = split_half_interval(
            value, of_each(lambda i, j: x[i].mean() - y[j].mean()), groups, rng, draws=1500, extrapolate=extrapolate
        )
        reach = (2.093 if n == 20 else 1.972) * np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / n)
        assert found == pytest.approx((value - reach, value + reach), abs=0.06 * reach)

    def test_images_of_one_group_count_as_one(self):
        rng = np.random.default_rng(0)
        x, y = np.repeat(rng.standard_normal(100), 4), rng.standard_normal(300)
        groups = units(np.repeat(np.arange(100), 4), np.arange(300))
        found = split_half_interval(0.0, of_each(lambda i, j: x[i].mean() - y[j].mean()), groups, rng, draws=1000)
        reach = 1.984 * np.sqrt(x[::4].var(ddof=1) / 100 + y.var(ddof=1) / 300)
        assert found == pytest.approx((-reach, reach), rel=0.06)

    @pytest.mark.parametrize("shift", [0.0, 1.0])
    def test_extrapolates_a_variance_that_falls_faster(self, shift):
        """The squared length of a mean in 50 dimensions less its bias: variance 4 shift² / n + 2 · 50 / n²."""

        def length(x: np.ndarray) -> float:
            return float((x.mean(axis=0) ** 2).sum() - 50 / len(x))

        n, variances = 80, []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            x = rng.standard_normal((n, 50))
            x[:, 0] += shift
            lengths = of_each(lambda i: length(x[i]))  # noqa: B023
            low, high = split_half_interval(0.0, lengths, units(np.arange(n)), rng, draws=60, extrapolate=True)
            variances.append(((high - low) / 2 / 1.9905) ** 2)
        # Where only the second term is left, what is kept from falling below it makes the mean larger.
        assert 0.8 < np.mean(variances) / (4 * shift**2 / n + 100 / n**2) < (1.5 if shift == 0 else 1.25)

    @pytest.mark.parametrize("shift", [0.0, 0.5])
    def test_holds_the_expected_wasserstein_distance(self, shift):
        def distance(x: np.ndarray, y: np.ndarray) -> float:
            return float(np.abs(np.sort(x) - np.sort(y)).mean())

        intervals, values = [], []
        for seed in range(120):
            rng = np.random.default_rng(seed)
            x, y = rng.standard_normal(60), rng.standard_normal(60) + shift
            values.append(distance(x, y))
            groups = units(np.arange(60), np.arange(60))
            intervals.append(split_half_interval(values[-1], between(distance, x, y), groups, rng, draws=40))
        low, high = np.array(intervals).T
        assert 0.9 <= ((low <= np.mean(values)) & (np.mean(values) <= high)).mean() <= 0.99
        assert (high - low).mean() < 1.4 * 2 * 1.96 * np.std(values)

    def test_none_with_few_groups_or_too_large_ones(self):
        mean = of_each(lambda i, j: 0.0)
        rng = np.random.default_rng(0)
        assert split_half_interval(0.0, mean, units(np.arange(20) % 4, np.arange(20)), rng) is None
        assert split_half_interval(0.0, mean, units(np.arange(20) % 5, np.arange(20)), rng) == (0, 0)
        assert split_half_interval(0.0, mean, units(np.arange(5).clip(max=1), np.arange(20)), rng) is None


def between(distance: Callable[..., float], x: np.ndarray, y: np.ndarray) -> Statistics:
    return of_each(lambda i, j: distance(x[i], y[j]))
