from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from sonosynth.core.errors import ClassError
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.diversity.alpha_precision import METRICS, alpha_precision

NAMES = ("alpha_precision", "beta_recall", "authenticity")


def features(n: int, dimension: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimension)) + shift


def norm(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x**2).sum(axis=-1))


def slow_alpha_precision(x: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    to_real, to_synthetic = norm(x - x.mean(axis=0)), norm(y - x.mean(axis=0))
    return (to_synthetic <= np.quantile(to_real, alphas)[:, None]).mean(axis=1)


def slow_beta_recall(x: np.ndarray, y: np.ndarray, betas: np.ndarray) -> np.ndarray:
    near, radii = [], []
    for n, image in enumerate(x):
        distances = norm(y - image)
        others = norm(np.delete(x, n, axis=0) - image)
        near.append(distances.min() <= others.min())
        radii.append(norm(y[distances.argmin()] - y.mean(axis=0)))
    return (np.array(near) & (np.array(radii) <= np.quantile(radii, betas)[:, None])).mean(axis=1)


def slow_authenticity(x: np.ndarray, y: np.ndarray) -> float:
    authentic = []
    for image in y:
        distances = norm(x - image)
        nearest = int(distances.argmin())
        others = norm(np.delete(x, nearest, axis=0) - x[nearest])
        authentic.append(distances[nearest] > others.min())
    return float(np.mean(authentic))


def integrated(curve: np.ndarray, levels: np.ndarray) -> float:
    return 1 - 2 * float(np.abs(curve - levels).mean())


def intervals(x, y, groups_x=None, groups_y=None, seed=0):
    return METRICS[0].interval(replace(Comparison.of_features(x, y, groups_x, groups_y), root_seed=seed), None)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(3, 40), st.integers(1, 20), st.floats(0.5, 1.5), st.integers(0, 99))
def test_agree_with_the_slow_definition(n, m, dimension, scale, seed):
    x, y = features(n, dimension, seed), scale * features(m, dimension, seed + 1, 0.3)
    # Two synthetic images are equally far from their mean, a tie that rounding breaks: at least three.
    grid = (np.arange(4000) + 0.5) / 4000
    found = alpha_precision(x, y)
    assert found["alpha_precision"] == pytest.approx(integrated(slow_alpha_precision(x, y, grid), grid), abs=2e-3)
    assert found["beta_recall"] == pytest.approx(integrated(slow_beta_recall(x, y, grid), grid), abs=2e-3)
    assert found["authenticity"] == pytest.approx(slow_authenticity(x, y), abs=1e-12)


def test_is_near_the_sum_over_thirty_points():
    x, y = features(200, 6, 0), 0.8 * features(150, 6, 1, 0.2)
    alphas = np.linspace(0, 1, 30)
    curves = slow_alpha_precision(x, y, alphas), slow_beta_recall(x, y, alphas)
    of_sums = [1 - 2 * np.abs(curve - alphas).sum() * (alphas[1] - alphas[0]) for curve in curves]
    assert [alpha_precision(x, y)["alpha_precision"], alpha_precision(x, y)["beta_recall"]] == pytest.approx(
        of_sums, abs=0.035
    )


def test_known_values():
    x = features(200, 5, 0)
    assert alpha_precision(x, x)["alpha_precision"] == pytest.approx(1, abs=0.01)
    assert alpha_precision(x, x + 1000)["alpha_precision"] == pytest.approx(0, abs=1e-12)
    assert alpha_precision(x, np.repeat(x.mean(axis=0)[None], 50, axis=0))["alpha_precision"] == pytest.approx(
        0, abs=1e-12
    )
    assert alpha_precision(x, x)["beta_recall"] == pytest.approx(1, abs=0.01)
    assert alpha_precision(x, x + 1000)["beta_recall"] == pytest.approx(0, abs=1e-12)
    assert alpha_precision(x, x + 1000)["authenticity"] == 1
    assert alpha_precision(x, x)["authenticity"] == 0


@pytest.mark.parametrize("copied", [0, 10, 50])
def test_authenticity_falls_by_the_share_of_noisy_copies(copied):
    x, y = features(400, 30, 0), features(400, 30, 1)
    fresh = alpha_precision(x, y[copied:])["authenticity"]
    y[:copied] = x[:copied] + 0.01 * features(copied, 30, 2)
    assert alpha_precision(x, y)["authenticity"] == pytest.approx(fresh * (400 - copied) / 400, abs=1e-9)


def test_collapse_lowers_recall_and_noise_lowers_precision():
    x = features(300, 8, 0)
    fair = {
        "precision": alpha_precision(x, features(300, 8, 1))["alpha_precision"],
        "recall": alpha_precision(x, features(300, 8, 1))["beta_recall"],
    }
    collapsed = x[:3].repeat(100, axis=0) + 0.1 * features(300, 8, 1)
    assert alpha_precision(x, collapsed)["beta_recall"] < 0.1 < fair["recall"] / 3
    assert alpha_precision(x, 1.5 * features(300, 8, 1))["alpha_precision"] < 0.5 < fair["precision"] - 0.3


def test_rows_are_chosen_by_their_indices():
    x, y = features(60, 5, 0), features(50, 5, 1)
    c = Comparison.of_features(x, y)
    chosen = METRICS[0].value(c.draw(c.synthetic[10:40], c.real[::2], c.held_out))
    assert tuple(chosen) == NAMES
    assert chosen == pytest.approx(alpha_precision(y[10:40], x[::2]), abs=1e-12)


def test_distances_to_the_mean_survive_a_large_offset():
    x, y = features(80, 50, 0), features(80, 50, 1)
    near = alpha_precision(x, y)
    assert alpha_precision(x + 1000, y + 1000) == pytest.approx(near, abs=1e-6)
    assert cdist(x, y).min() > 1


def test_too_few_images_are_refused():
    with pytest.raises(ClassError, match="5 and 1 images"):
        alpha_precision(features(5, 4, 0), features(1, 4, 1))


class TestIntervals:
    @pytest.mark.long
    def test_cover_the_expected_values_at_this_size(self):
        pairs = [(features(50, 8, 2 * s), 0.95 * features(40, 8, 2 * s + 1)) for s in range(100)]
        values = [alpha_precision(x, y) for x, y in pairs]
        found = [intervals(x, y, seed=s) for s, (x, y) in enumerate(pairs)]
        for name in NAMES:
            expected = np.mean([value[name] for value in values])
            limits = np.array([one[name] for one in found])
            assert ((limits[:, 0] <= expected) & (expected <= limits[:, 1])).mean() > 0.84
            spread = np.std([value[name] for value in values])
            assert (limits[:, 1] - limits[:, 0]).mean() < 2 * 1.96 * spread * 1.6

    def test_repeat_by_seed_and_stay_in_range(self):
        x = features(40, 6, 0)
        y = x + 1e-3 * features(40, 6, 1)
        found = intervals(x, y, seed=3)
        assert found == intervals(x, y, seed=3) != intervals(x, y, seed=4)
        assert alpha_precision(x, y)["authenticity"] == 0
        assert found["authenticity"] == pytest.approx((0, 0.093), abs=0.03)
        assert all(0 <= low < high <= 1 for low, high in found.values())

    def test_images_of_one_group_count_as_one(self):
        x, one = features(80, 8, 0), features(20, 8, 1)
        y = np.repeat(one, 4, axis=0) + 0.02 * features(80, 8, 2)
        whole, alone = intervals(x, y, groups_y=np.repeat(np.arange(20), 4)), intervals(x, y)
        for name in ("alpha_precision", "authenticity"):
            assert np.diff(whole[name]) > 1.1 * np.diff(alone[name])

    def test_none_with_few_groups(self):
        x, y = features(20, 5, 0), features(20, 5, 1)
        assert intervals(x, y, groups_y=np.arange(20) % 4) == {}
        assert set(intervals(x, y, groups_y=np.arange(20) % 5)) == set(NAMES)
