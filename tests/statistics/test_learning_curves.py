import math

import numpy as np
import pytest

from f1_scores import macro_f1_interval, macro_f1_scores
from simulated_outcomes import SKILLS, draw_images, predict
from sonosynth.statistics.comparisons import score_difference
from sonosynth.statistics.learning_curves import EquivalentRealImages, equivalent_real_images, learning_curve
from sonosynth.statistics.scores import FixedTestScores, Interval

SIZES = [25, 50, 100, 200]


def score(value, random=None, spread=0.02, n_draws=5, n_groups=40):
    """A score whose pseudo-values vary about `value` with draws and single cells, or are all `value`."""
    noise = np.zeros((n_groups, n_draws))
    if random is not None:
        noise = random.normal(0, spread * np.sqrt(n_groups), (n_groups, n_draws)) + random.normal(0, spread, n_draws)
    table = value + noise
    whole = table.mean(axis=0)
    return FixedTestScores(whole, (n_groups * whole - table) / (n_groups - 1))


def simulated(seed, gain):
    random = np.random.default_rng(seed)
    images = draw_images(random)
    by_size = [predict(random, images, [SKILLS[n], SKILLS[n] + gain], n) for n in SIZES]
    arms = [[macro_f1_scores(images.labels, images.groups, p[k], 3) for p in by_size] for k in (0, 1)]
    return images, by_size, *arms


def test_points_are_those_of_the_tables():
    images, by_size, a, _ = simulated(1, 0.0)
    curve = learning_curve(SIZES, a)
    assert curve.sizes == tuple(SIZES) and curve.covers == "draws and test groups"
    assert curve.points == tuple(macro_f1_interval(images.labels, images.groups, p[0], 3) for p in by_size)


@pytest.mark.parametrize(
    ("reached", "expected"),
    [
        (0.45, 25 * math.sqrt(2)),  # half way between 25 and 50, in log2 n
        (0.60, 100),
        (0.39, -math.inf),
        (0.71, math.inf),
        (0.40, 25),
        (0.70, 200),
    ],
)
def test_curve_is_read_in_log2_n_and_not_beyond_its_ends(reached, expected):
    worth = equivalent_real_images(SIZES, [score(v) for v in (0.4, 0.5, 0.6, 0.7)], 50, score(reached))
    assert worth.equivalent.value == pytest.approx(expected)
    assert worth.gain.value == pytest.approx(expected - 50)
    assert worth.equivalent.low <= worth.equivalent.value <= worth.equivalent.high


def test_a_curve_that_falls_is_made_to_rise():
    worth = equivalent_real_images(SIZES, [score(v) for v in (0.4, 0.6, 0.5, 0.7)], 50, score(0.55))
    assert worth.equivalent.value == pytest.approx(50)  # the pooled value of 50 and 100, where it is first reached
    worth = equivalent_real_images(SIZES, [score(v) for v in (0.4, 0.6, 0.5, 0.7)], 50, score(0.625))
    assert worth.equivalent.value == pytest.approx(100 * math.sqrt(2))


@pytest.mark.parametrize("gain", [0.0, 0.1, 0.4])
def test_interval_holds_the_sizes_that_are_not_told_apart(gain):
    seen = set()
    for seed in range(8):
        _, _, a, b = simulated(seed, gain)
        worth = equivalent_real_images(SIZES, a, 50, b[1])
        told = [score_difference(x, b[1]).absolute.excludes_zero for x in a]
        for n, apart in zip(SIZES, told, strict=True):
            if not apart:
                assert worth.equivalent.low <= n <= worth.equivalent.high
        assert math.isinf(worth.equivalent.low) == (not told[0]) or worth.equivalent.low == math.inf
        assert math.isinf(worth.equivalent.high) == (not told[-1]) or worth.equivalent.low == math.inf
        seen |= set(told)
    assert seen == {True, False}


def test_interval_holds_the_truth_as_often_as_it_says():
    random, n = np.random.default_rng(3), 400
    covered = finite = 0
    for _ in range(n):
        curve = [score(v, random) for v in (0.4, 0.5, 0.6, 0.7)]
        worth = equivalent_real_images(SIZES, curve, 50, score(0.55, random))
        covered += worth.equivalent.low <= 50 * math.sqrt(2) <= worth.equivalent.high
        finite += math.isfinite(worth.equivalent.low) and math.isfinite(worth.equivalent.high)
    assert 0.92 <= covered / n <= 0.98
    assert finite > n / 2


def test_words_for_what_lies_beyond():
    worth = EquivalentRealImages(50, Interval(83.2, -math.inf, math.inf), (25, 200), "test groups")
    assert str(worth) == (
        "50 real images with synthetic ones equal 83 real images alone [fewer than 25, more than 200]"
    )
    assert worth.gain.high == math.inf


def test_one_test_group_leaves_the_interval_unknown():
    low, high, between = (FixedTestScores(np.array([v]), np.full((1, 1), np.nan)) for v in (0.4, 0.6, 0.5))
    worth = equivalent_real_images([25, 50], [low, high], 25, between)
    assert worth.equivalent.value == pytest.approx(25 * math.sqrt(2)) and math.isnan(worth.equivalent.low)
    assert "unknown" in str(worth)


def test_what_cannot_be_a_curve_is_refused():
    a, b = score(0.4), score(0.5)
    for sizes, scores in (([50, 25], [a, b]), ([25], [a, b]), ([], [])):
        with pytest.raises(ValueError, match="ascend"):
            learning_curve(sizes, scores)
    with pytest.raises(ValueError, match="same draws"):
        learning_curve([25, 50], [a, score(0.5, n_draws=4)])
    with pytest.raises(ValueError, match="two measured sizes"):
        equivalent_real_images([25], [a], 25, b)
    with pytest.raises(ValueError, match="same draws"):
        equivalent_real_images([25, 50], [a, b], 25, score(0.5, n_groups=39))
