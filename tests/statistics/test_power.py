from dataclasses import astuple, replace

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from f1_scores import macro_f1_scores
from simulated_outcomes import SKILLS, draw_images, predict
from sonosynth.statistics.power import (
    BUSI_COMPONENTS,
    VarianceComponents,
    error_range,
    fixed_test_error,
    minimum_detectable_difference,
    t_test_power,
    variance_components,
)

DRAWS_ALONE = VarianceComponents(draw=0.0009, seed=0, group=0)


def power(difference, components, *design, comparisons=1):
    return t_test_power(difference, *fixed_test_error(components, *design), comparisons)


def smallest(components, *design, comparisons=1):
    return minimum_detectable_difference(*fixed_test_error(components, *design), comparisons)


@pytest.mark.parametrize("n_draws", [3, 5, 12])
def test_where_only_draws_vary_it_is_the_power_of_the_t_test(n_draws):
    theirs = TTestPower().power(0.05 / 0.03, n_draws, 0.025, alternative="larger")
    assert power(0.05, DRAWS_ALONE, n_draws, 1, 150) == pytest.approx(theirs, abs=1e-6)
    found = TTestPower().solve_power(None, n_draws, 0.025, 0.8, "larger")
    assert smallest(DRAWS_ALONE, n_draws, 1, 150) == pytest.approx(0.03 * found, rel=1e-4)


def test_smallest_difference_has_the_power_it_should():
    for comparisons in (1, 12):
        found = smallest(BUSI_COMPONENTS, 5, 5, 150, comparisons=comparisons)
        assert power(found, BUSI_COMPONENTS, 5, 5, 150, comparisons=comparisons) == pytest.approx(0.8, abs=1e-6)


def test_of_an_unknown_error_nothing_is_said():
    with pytest.raises(ValueError, match="must be finite"):
        minimum_detectable_difference(float("nan"), 4)


def test_more_of_anything_sees_more_and_more_questions_see_less():
    components = replace(BUSI_COMPONENTS, draw_group=0.05, seed_group=0.05)
    base = smallest(components, 5, 5, 150)
    for more in ((10, 5, 150), (5, 10, 150), (5, 5, 300)):
        assert smallest(components, *more) < base
    assert smallest(components, 5, 5, 150, comparisons=12) > base
    fixed = smallest(VarianceComponents(0, 0, 0.2), 5, 1, 150)
    assert smallest(VarianceComponents(0, 0, 0.2), 50, 9, 150) == pytest.approx(fixed, rel=0.02)


def test_two_draws_have_no_power_and_no_variance_sees_all():
    assert fixed_test_error(BUSI_COMPONENTS, 2, 5, 150) is None
    assert smallest(VarianceComponents(0, 0, 0), 5, 5, 150) == 0


def test_impossible_designs_are_refused():
    for design in ((0, 5, 150), (5, 0, 150), (5, 5, 1)):
        with pytest.raises(ValueError, match="no design"):
            fixed_test_error(BUSI_COMPONENTS, *design)
    with pytest.raises(ValueError, match="comparisons"):
        smallest(BUSI_COMPONENTS, 5, 5, 150, comparisons=0)
    with pytest.raises(ValueError, match="below zero"):
        VarianceComponents(-0.1, 0, 0)


def test_components_add_up_to_the_variance_of_the_difference():
    for seed in range(20):
        random = np.random.default_rng(seed)
        images = draw_images(random)
        a, b = predict(random, images, [0.6, 0.6], 50, 4, 3)
        c = variance_components(images.labels, images.groups, a, b, 3)
        if min(astuple(c)) > 0:
            break
    else:
        pytest.fail("no data without a component below zero")
    n_groups = len(np.unique(images.groups))
    total = c.draw / 4 + c.seed / 12 + c.group / n_groups + c.draw_group / (4 * n_groups)
    total += c.seed_group / (12 * n_groups)
    scores = [macro_f1_scores(images.labels, images.groups, arm, 3) for arm in (a, b)]
    assert total == pytest.approx((scores[1] - scores[0]).estimate().standard_error ** 2)


def test_components_need_two_of_each_and_pairs():
    random = np.random.default_rng(0)
    images = draw_images(random)
    a, b = predict(random, images, [0.6, 0.6], 50, 2, 2)
    for x, y in ((a[:1], b[:1]), (a[:, :1], b[:, :1])):
        with pytest.raises(ValueError, match="two of each"):
            variance_components(images.labels, images.groups, x, y, 3)
    with pytest.raises(ValueError, match="equal shapes"):
        variance_components(images.labels, images.groups, a, b[:, :1], 3)


@pytest.mark.long
def test_power_is_as_predicted_in_simulation():
    random, n, size, gain = np.random.default_rng(11), 300, 100, 0.25
    components, differences, found = [], [], 0
    for _ in range(n):
        images = draw_images(random)
        a, b = predict(random, images, [SKILLS[size], SKILLS[size] + gain], size, 4, 2)
        components.append(astuple(variance_components(images.labels, images.groups, a, b, 3)))
        scores = [macro_f1_scores(images.labels, images.groups, arm, 3) for arm in (a, b)]
        estimate = (scores[1] - scores[0]).estimate()
        differences.append(estimate.value)
        found += estimate.p_value() < 0.05 and estimate.value > 0
    mean = VarianceComponents(*(float(v) for v in np.mean(components, axis=0)))
    predicted = power(float(np.mean(differences)), mean, 4, 2, 148)
    assert 0.5 < predicted < 0.95  # far from where every formula is right
    assert found / n == pytest.approx(predicted, abs=0.08)


@pytest.mark.parametrize("freedom", [2, 6, 30])
def test_the_range_of_an_error_holds_the_true_one_nine_times_in_ten(freedom):
    estimates = np.sqrt(np.random.default_rng(freedom).chisquare(freedom, 4000) / freedom)
    limits = np.array([error_range(estimate, freedom) for estimate in estimates])
    assert np.mean(limits[:, 0] > 1) == pytest.approx(0.05, abs=0.012)
    assert np.mean(limits[:, 1] < 1) == pytest.approx(0.05, abs=0.012)


def test_scores_of_several_generator_seeds_are_averaged():
    random = np.random.default_rng(0)
    images = draw_images(random)
    a, b = predict(random, images, [0.6, 0.6], 50, 3, 3)
    other = predict(random, images, [0.6, 0.6], 50, 3, 3)[1]

    def components(*of_b):
        return variance_components(images.labels, images.groups, a, np.stack(of_b), 3)

    assert components(b) == components(b, b) == variance_components(images.labels, images.groups, a, b, 3)
    assert components(b, other) not in (components(b), components(other))
