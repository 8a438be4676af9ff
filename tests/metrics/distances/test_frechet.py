from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from sonosynth.core.errors import ClassError
from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.distances.frechet import (
    METRICS,
    _distances,
    _rough_distances,
    frechet_distance,
    frechet_infinity,
    frechet_interval,
)


def features(n: int, dimension: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(np.arange(1, dimension + 1))
    return rng.standard_normal((n, dimension)) * spectrum + shift


class PassedThrough(torch.nn.Module):
    """Gives torchmetrics features instead of images."""

    def __init__(self, dimension: int):
        super().__init__()
        self.num_features = dimension

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def by_torchmetrics(x: np.ndarray, y: np.ndarray) -> float:
    metric = FrechetInceptionDistance(feature=PassedThrough(x.shape[1]), normalize=True).set_dtype(torch.float64)
    metric.update(torch.from_numpy(x), real=True)
    metric.update(torch.from_numpy(y), real=False)
    return float(metric.compute())


@pytest.mark.parametrize(("n", "m", "dimension"), [(300, 200, 16), (40, 30, 64), (100, 30, 64), (12, 200, 64)])
def test_agrees_with_torchmetrics_also_below_as_many_rows_as_columns(n, m, dimension):
    x, y = features(n, dimension, 0), features(m, dimension, 1, shift=0.3) * 1.3
    assert frechet_distance(x, y) == pytest.approx(by_torchmetrics(x, y), rel=1e-4)


def test_is_the_formula_with_a_matrix_root():
    x, y = features(200, 10, 0), features(150, 10, 1, 0.2) @ np.random.default_rng(2).standard_normal((10, 10))
    a, b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 20, 300])
def test_known_values_for_shifted_and_scaled_copies(n):
    x = features(n, 50, 0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2.0) == pytest.approx(4 * 50, rel=1e-9)
    scaled = 0.25 * (x.mean(0) ** 2).sum() + 0.25 * x.var(0, ddof=1).sum()
    assert frechet_distance(x, 1.5 * x) == pytest.approx(scaled, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 40), st.integers(0, 99))
def test_symmetric_unordered_nonnegative_and_equal_from_inner_products(n, m, dimension, seed):
    x, y = features(n, dimension, seed), features(m, dimension, seed + 1, 0.5)
    found = frechet_distance(x, y)
    tolerance = {"rel": 1e-8, "abs": 1e-9}
    assert found >= 0
    assert frechet_distance(y, x) == pytest.approx(found, **tolerance)
    assert frechet_distance(x[::-1], y[::-1]) == pytest.approx(found, **tolerance)
    assert METRICS[0].value(Comparison.of_features(x, y)) == pytest.approx(found, **tolerance)


def test_float32_features_lose_nothing_to_their_large_mean():
    x, y = (features(50, 30, seed).astype(np.float32) + np.float32(100) for seed in (0, 1))
    expected = frechet_distance(x.astype(np.float64) - 100, y.astype(np.float64) - 100)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert METRICS[0].value(Comparison.of_features(x, y)) == pytest.approx(expected, rel=1e-6)


def test_too_few_images_and_wrong_arrays_are_refused():
    with pytest.raises(ClassError, match="1 and 5 images: a distance needs at least 2"):
        frechet_distance(features(1, 4, 0), features(5, 4, 1))
    with pytest.raises(ValueError, match=r"\[N, D\] and \[M, D\]"):
        frechet_distance(features(5, 4, 0), features(5, 3, 1))
    broken = features(5, 4, 0)
    broken[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(features(5, 4, 1), broken)


def interval(x, y, groups_x=None, groups_y=None, seed=0):
    c = Comparison.of_features(x, y, groups_x, groups_y)
    return frechet_interval(frechet_distance(x, y), c, c.units, seed)


def infinity(x, y, groups_x=None, groups_y=None, seed=0):
    return frechet_infinity(replace(Comparison.of_features(x, y, groups_x, groups_y), root_seed=seed))


class TestInterval:
    @pytest.mark.slow
    def test_covers_the_expected_distance_at_this_size(self):
        pairs = [(features(60, 40, 2 * s), 1.1 * features(60, 40, 2 * s + 1, 0.2)) for s in range(120)]
        expected = np.mean([frechet_distance(x, y) for x, y in pairs])
        intervals = [interval(x, y, seed=s) for s, (x, y) in enumerate(pairs)]
        covered = np.mean([low <= expected <= high for low, high in intervals])
        assert 0.9 <= covered <= 0.995
        # All simulated distances lie in an interval 2.5 times as wide only if it is not absurdly wide itself.
        spread = np.std([frechet_distance(x, y) for x, y in pairs])
        assert np.mean([high - low for low, high in intervals]) < 2 * 1.96 * spread * 1.5

    def test_contains_its_estimate_and_repeats_by_seed(self):
        x, y = features(40, 20, 0), features(30, 20, 1)
        low, high = interval(x, y, seed=3)
        assert 0 <= low < frechet_distance(x, y) < high
        assert interval(x, y, seed=3) == (low, high)
        assert interval(x, y, seed=4) != (low, high)

    def test_distances_of_halves_that_differ_in_size_are_those_of_their_features(self):
        x, y = features(40, 60, 0), features(33, 60, 1, 0.5)
        parts = [(np.arange(17), np.arange(5, 33)), (np.arange(17, 40), np.arange(5))]
        found = _rough_distances(x @ x.T, y @ y.T, x @ y.T, parts)
        assert found == pytest.approx([frechet_distance(x[i], y[j]) for i, j in parts], rel=1e-6)

    def test_few_features_and_many_give_the_same_distances(self):
        parts = [(np.arange(25), np.arange(30)), (np.arange(20, 40), np.arange(10, 33))]
        for n_features in (12, 60):
            c = Comparison.of_features(features(40, n_features, 0), features(33, n_features, 1, 0.5))
            wanted = [frechet_distance(c.features[0][i], c.features[1][j]) for i, j in parts]
            assert _distances(c, parts) == pytest.approx(wanted, rel=1e-6)

    def test_images_of_one_group_count_as_one(self):
        def lengths(seed: int) -> tuple[float, float]:
            one, y = features(20, 30, 3 * seed), features(60, 30, 3 * seed + 1, 0.5)
            x = np.repeat(one, 4, axis=0) + 0.05 * features(80, 30, 3 * seed + 2)
            found = (interval(x, y, groups) for groups in (np.repeat(np.arange(20), 4), None))
            return tuple(high - low for low, high in found)

        together, alone = np.mean([lengths(seed) for seed in range(10)], axis=0)
        assert together > 1.3 * alone

    def test_none_with_few_groups(self):
        x, y = features(20, 5, 0), features(20, 5, 1)
        assert interval(x, y, groups_y=np.arange(20) % 4) is None
        assert interval(x, y, groups_y=np.arange(20) % 5) is not None


class TestInfinity:
    @pytest.mark.parametrize(("n", "m"), [(48, 60), (200, 120)])
    def test_nearer_to_the_known_distance_of_gaussians_than_the_plain_value(self, n, m):
        dimension, shift = 24, 0.1
        variances = 1 / np.arange(1, dimension + 1)
        truth = dimension * shift**2 + (variances * 0.2**2).sum()
        plain, limits = [], []
        for s in range(30):
            x, y = features(n, dimension, 2 * s), 1.2 * features(m, dimension, 2 * s + 1) + shift
            plain.append(frechet_distance(x, y))
            limits.append(infinity(x, y, seed=s).value)
        plain, limits = np.array(plain) - truth, np.array(limits) - truth
        assert np.sqrt((limits**2).mean()) < 0.6 * np.sqrt((plain**2).mean())
        assert abs(limits.mean()) < min(0.15 * plain.mean(), 4 * limits.std() / np.sqrt(30))

    def test_is_the_line_through_the_means_at_each_size(self):
        x, y = features(60, 8, 0), features(50, 8, 1, 0.2)
        rng = numpy_generator(5, "frechet infinity")
        inverse, means = [1.0], [frechet_distance(x, y)]
        for size in (2, 1.75, 1.5, 1.25):
            n, m = round(60 / size), round(50 / size)
            draws = [(rng.permutation(60)[:n], rng.permutation(50)[:m]) for _ in range(5)]
            inverse.append((60 / n + 50 / m) / 2)
            means.append(np.mean([frechet_distance(x[i], y[j]) for i, j in draws]))
        slope = np.cov(inverse, means)[0, 1] / np.var(inverse, ddof=1)
        expected = np.mean(means) - slope * np.mean(inverse)
        assert infinity(x, y, seed=5).value == pytest.approx(expected, rel=1e-9)

    def test_groups_are_drawn_whole_and_remove_the_bias_of_their_number(self):
        # Four nearly equal images a group: the bias is that of the number of groups.
        limits, alone = [], []
        for s in range(20):
            x, y = (np.repeat(features(50, 12, 2 * s + k), 4, axis=0) for k in (0, 1))
            groups = np.repeat(np.arange(50), 4)
            limits.append(infinity(x, y, groups, groups, seed=s).value)
            alone.append(infinity(x, y, seed=s).value)
        assert abs(np.mean(limits)) < 0.35 * np.mean(alone)

    def test_no_value_without_twice_as_many_images_as_features(self):
        found = infinity(features(40, 20, 0), features(39, 20, 1))
        assert found.value is None
        assert found.note == "40 and 39 images, but 20 features need 40 images in each set"
        found = infinity(features(40, 20, 0), features(40, 20, 1))
        assert found.value is not None and found.note == ""

    def test_no_value_with_few_or_too_large_groups(self):
        x, y = features(40, 4, 0), features(40, 4, 1)
        assert infinity(x, y, np.arange(40) % 7).note == "7 groups of images in a set, but 4 features need 8"
        assert infinity(x, y, np.arange(40) % 8).value is not None
        narrow = infinity(x[:, :1], y[:, :1], groups_y=np.arange(40) % 4)
        assert narrow.note == "4 groups of images in a set, but 1 features need 5"
        one_large = np.maximum(np.arange(40) - 36, 0)
        found = infinity(x, y, np.maximum(one_large, 0), np.arange(40))
        assert found.value is None and found.note

    def test_broken_features_are_refused(self):
        with pytest.raises(ClassError, match="at least 2"):
            infinity(features(1, 4, 0), features(9, 4, 1))
