from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binomtest

from sonosynth.metrics.halving import Share, halving_intervals

SHARES = {"share": Share(of_first=True)}


def interval(hits: np.ndarray, groups: np.ndarray | None = None, seed: int = 0, **settings) -> tuple[float, float]:
    index = np.arange(len(hits))
    found = halving_intervals(
        lambda i, j: {"share": hits[i].mean()},
        SHARES,
        index if groups is None else groups,
        index,
        np.random.default_rng(seed),
        **settings,
    )
    return found["share"]


@pytest.mark.parametrize("count", [4, 100, 170, 200])
def test_is_the_wilson_interval_of_a_plain_share(count):
    hits = np.random.default_rng(0).permutation(np.arange(200) < count).astype(float)
    expected = binomtest(count, 200).proportion_ci(method="wilson")
    assert interval(hits, draws=400) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_images_of_one_group_count_as_one():
    hits = np.repeat(np.random.default_rng(0).random(100) < 0.7, 4).astype(float)
    expected = binomtest(int(hits[::4].sum()), 100).proportion_ci(method="wilson")
    found = interval(hits, np.repeat(np.arange(100), 4), draws=400)
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)


def test_groups_of_unequal_size_are_weighed():
    rng = np.random.default_rng(0)
    sizes = np.array([40, 30] + [1] * 130)
    hits = np.repeat(rng.random(132) < 0.6, sizes).astype(float)
    low, high = interval(hits, np.repeat(np.arange(132), sizes), draws=100)
    plain = interval(hits, draws=100)
    assert high - low > 1.5 * (plain[1] - plain[0])


def test_repeats_by_seed_and_narrows_with_level():
    hits = (np.random.default_rng(0).random(60) < 0.7).astype(float)
    assert interval(hits, seed=1) == interval(hits, seed=1) != interval(hits, seed=2)
    limits = [interval(hits, level=level) for level in (0.5, 0.9, 0.99)]
    assert all(wide[0] < narrow[0] < narrow[1] < wide[1] for narrow, wide in pairwise(limits))


def test_none_with_few_groups():
    hits = np.ones(20)
    index = np.arange(20)
    for first, second in ((index % 4, index), (index, index % 4)):
        assert halving_intervals(lambda i, j: {"share": hits[i].mean()}, SHARES, first, second, None) is None
    assert interval(hits, index % 5) == pytest.approx((0.39, 1), abs=0.01)


def test_divergence_near_its_bound_is_covered():
    rng = np.random.default_rng(0)
    index = np.arange(50)
    shares = {"as divergence": Share(of_first=True, divergence=True), "as share": Share(of_first=True)}
    values, found = [], []
    for seed in range(150):
        x = rng.standard_normal(50)
        values.append(1 - abs(x.mean()))
        found.append(
            halving_intervals(
                lambda i, j, x=x: dict.fromkeys(shares, 1 - abs(x[i].mean())),
                shares,
                index,
                index,
                np.random.default_rng(seed),
                draws=40,
            )
        )
    covered = {name: np.mean([one[name][0] <= np.mean(values) <= one[name][1] for one in found]) for name in shares}
    assert covered["as divergence"] > 0.9
    assert covered["as share"] < covered["as divergence"] - 0.03
