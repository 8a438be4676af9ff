import itertools

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from torchmetrics.image.kid import KernelInceptionDistance

from sonosynth.core.errors import ClassError
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.distances.kernel import METRICS, cmmd, gaussian_kernel, kernel_distance, kernel_distance_of


def features(n: int, dimension: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimension)) + shift


def interval(
    x: np.ndarray, y: np.ndarray, groups_x: np.ndarray | None = None, gaussian: bool = False
) -> tuple[float, float] | None:
    return METRICS[gaussian].interval(Comparison.of_features(x, y, groups_x), None)


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

    def test_is_the_delete_one_jackknife(self):
        x, y = features(12, 6, 0), features(9, 6, 1, 0.5)
        left_out = [
            np.array([kernel_distance(np.delete(x, k, 0), y) for k in range(12)]),
            np.array([kernel_distance(x, np.delete(y, k, 0)) for k in range(9)]),
        ]
        error = np.sqrt(sum((len(v) - 1) / len(v) * ((v - v.mean()) ** 2).sum() for v in left_out))
        reach = student.ppf(0.975, 8) * error
        value = kernel_distance(x, y)
        assert interval(x, y) == pytest.approx((value - reach, value + reach), rel=1e-9)

    def test_unequal_groups_are_weighted_as_published(self):
        x, y = features(14, 6, 0), features(9, 6, 1, 0.5)
        groups = np.array([7, 7, 7, 7, 1, 1, 2, 3, 4, 5, 5, 5, 6, 8])
        value = kernel_distance(x, y)

        def variance(sets: tuple[np.ndarray, np.ndarray], side: int, groups: np.ndarray) -> float:
            n, names = len(groups), np.unique(groups)
            without = []
            for name in names:
                parts = list(sets)
                parts[side] = parts[side][groups != name]
                without.append(kernel_distance(*parts))
            sizes = [(groups == name).sum() for name in names]
            centre = len(names) * value - sum((1 - m / n) * v for m, v in zip(sizes, without, strict=True))
            terms = [
                (n / m * value - (n / m - 1) * v - centre) ** 2 / (n / m - 1)
                for m, v in zip(sizes, without, strict=True)
            ]
            return float(np.mean(terms))

        error = np.sqrt(variance((x, y), 0, groups) + variance((x, y), 1, np.arange(9)))
        reach = student.ppf(0.975, len(np.unique(groups)) - 1) * error
        assert interval(x, y, groups) == pytest.approx((value - reach, value + reach), rel=1e-9)

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
        found = kernel_distance_of(*c.blocks(gaussian_kernel(c.space.gram, sigma)))
        unbiased, biased = published_cmmd(x, y, sigma)
        assert found == pytest.approx(unbiased, rel=1e-8)
        assert biased > unbiased + 0.1 * abs(unbiased)

    def test_distance_and_interval_are_those_of_its_matrix(self):
        x, y = features(30, 6, 0), features(20, 6, 1, 0.6)
        assert cmmd(x, y) == pytest.approx(published_cmmd(x, y)[0], rel=1e-8)
        low, high = interval(x, y, np.arange(30) // 3, gaussian=True)
        assert low < cmmd(x, y) < high

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
