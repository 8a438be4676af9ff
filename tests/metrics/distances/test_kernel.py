import itertools

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from sonosynth.core.errors import ClassError
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.distances.kernel import METRICS, cmmd, gaussian_kernel, kernel_distance, kernel_distance_of


def features(n: int, dimension: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimension)) + shift


def interval(
    x: np.ndarray, y: np.ndarray, groups_x: np.ndarray | None = None, gaussian: bool = False
) -> tuple[float, float] | None:
    c = Comparison.of_features(x, y, groups_x)
    return METRICS[gaussian].interval(c, METRICS[gaussian].value(c).value)


class PassedThrough(torch.nn.Module):
    """Gives torchmetrics features instead of images."""

    def __init__(self, dimension: int):
        super().__init__()
        self.num_features = dimension

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_agrees_with_torchmetrics_with_one_subset_of_all_images(shift):
    x, y = features(40, 24, 0), features(40, 24, 1, shift)
    metric = KernelInceptionDistance(feature=PassedThrough(24), subsets=1, subset_size=40, normalize=True)
    metric = metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(x), real=True)
    metric.update(torch.from_numpy(y), real=False)
    assert kernel_distance(x, y) == pytest.approx(float(metric.compute()[0]), rel=1e-4)


def test_is_the_mean_over_all_pairs_for_unequal_sizes():
    x, y = features(7, 5, 0), features(4, 5, 1, 0.5)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 5 + 1) ** 3

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    expected = sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_unbiased_for_equal_distributions_at_any_size():
    for n in (4, 20):
        values = [kernel_distance(features(n, 16, 2 * s), features(n + 3, 16, 2 * s + 1)) for s in range(400)]
        assert abs(np.mean(values)) < 4 * np.std(values) / 20
        assert min(values) < 0


def test_pairs_of_one_group_are_left_out():
    """Four alike images of each of 15 lesions against independent ones: with such pairs, the mean would be 0.6."""
    values, all_pairs = [], []
    for seed in range(200):
        lesions = np.repeat(features(15, 16, 3 * seed), 4, axis=0)
        x, y = (lesions + features(60, 16, 3 * seed + 1)) / np.sqrt(2), features(60, 16, 3 * seed + 2)
        c = Comparison.of_features(x, y, np.arange(60) // 4)
        values.append(METRICS[0].value(c).value)
        all_pairs.append(kernel_distance(x, y))
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
    assert np.mean(all_pairs) > 5 * np.std(all_pairs) / np.sqrt(200)


def test_images_of_a_single_group_have_no_distance():
    c = Comparison.of_features(features(6, 4, 0), features(6, 4, 1), np.zeros(6, int))
    value = METRICS[0].value(c)
    assert value.value is None and "of one group" in value.note


def test_too_few_images_are_refused():
    with pytest.raises(ClassError, match="at least 2"):
        kernel_distance(features(5, 4, 0), features(1, 4, 1))


class TestInterval:
    @pytest.mark.parametrize("shift", [0.0, 0.15])
    def test_covers_the_true_distance(self, shift):
        pairs = [(features(60, 40, 2 * s), features(60, 40, 2 * s + 1, shift)) for s in range(300)]
        values = np.array([kernel_distance(x, y) for x, y in pairs])
        intervals = np.array([interval(x, y) for x, y in pairs])
        # The estimate is unbiased, so the mean over many pairs is the truth.
        covered = ((intervals[:, 0] <= values.mean()) & (values.mean() <= intervals[:, 1])).mean()
        assert 0.9 <= covered <= 0.995
        assert ((intervals[:, 0] < values) & (values < intervals[:, 1])).all()

    @pytest.mark.slow
    def test_is_not_too_long_where_the_distributions_are_equal(self):
        pairs = [(features(60, 40, 2 * s), features(60, 40, 2 * s + 1)) for s in range(200)]
        lengths = [np.diff(interval(x, y))[0] for x, y in pairs]
        assert np.mean(lengths) < 1.3 * 2 * 1.96 * np.std([kernel_distance(x, y) for x, y in pairs])

    def test_none_with_few_groups(self):
        x, y = features(20, 5, 0), features(20, 5, 1)
        assert interval(x, y, groups_x=np.arange(20) % 4) is None
        assert interval(x, y, groups_x=np.arange(20) % 5) is not None


def published_cmmd(x: np.ndarray, y: np.ndarray, sigma: float = 10) -> tuple[float, float]:
    """CMMD as published, pair by pair, on features of unit length: over pairs of two images, and over all pairs."""
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return 1000 * np.exp(-((a - b) ** 2).sum() / (2 * sigma**2))

    between = 2 * np.mean([kernel(a, b) for a in x for b in y])
    unbiased = sum(np.mean([kernel(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y))
    return unbiased - between, sum(np.mean([kernel(a, b) for a in z for b in z]) for z in (x, y)) - between


class TestGaussian:
    @pytest.mark.parametrize("sigma", [10, 0.5])
    def test_is_the_published_estimator_without_pairs_of_an_image_with_itself(self, sigma):
        x, y = features(9, 6, 0), features(7, 6, 1, 0.6)
        c = Comparison.of_features(x, y)
        found = kernel_distance_of(c, gaussian_kernel(c.space.gram, sigma)).value
        unbiased, biased = published_cmmd(x, y, sigma)
        assert found == pytest.approx(unbiased, rel=1e-8)
        assert biased > unbiased + 0.1 * abs(unbiased)

    def test_distance_and_interval_are_those_of_its_matrix(self):
        x, y = features(30, 6, 0), features(20, 6, 1, 0.6)
        assert cmmd(x, y) == pytest.approx(published_cmmd(x, y)[0], rel=1e-8)
        low, high = interval(x, y, np.arange(30) // 3, gaussian=True)
        assert low < high

    def test_unbiased_for_equal_distributions(self):
        values = [cmmd(features(5, 8, 2 * s), features(8, 8, 2 * s + 1)) for s in range(400)]
        assert abs(np.mean(values)) < 4 * np.std(values) / 20

    def test_the_scale_of_an_image_does_not_count_and_zero_features_are_no_trouble(self):
        x, y = features(12, 6, 0), features(9, 6, 1, 0.6)
        scales = np.random.default_rng(2).uniform(0.1, 10, (12, 1))
        assert cmmd(x * scales, y) == pytest.approx(cmmd(x, y), rel=1e-8)
        x[0] = 0
        matrix = gaussian_kernel(x @ x.T)
        assert matrix[0, 0] == 1000
        assert matrix[0, 1:] == pytest.approx(1000 * np.exp(-1 / 200))

    def test_at_its_width_it_is_ten_times_the_squared_distance_of_mean_directions(self):
        x, y = features(300, 6, 0, 1.0), features(300, 6, 1, 2.0)
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        noise = sum(z.var(axis=0, ddof=1).sum() / 300 for z in (x, y))  # in the squared distance of two means
        expected = 10 * (((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() - noise)
        assert expected > 0.1
        assert cmmd(x, y) == pytest.approx(expected, rel=0.01)
