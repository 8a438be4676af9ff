import itertools

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from torchmetrics.image.kid import KernelInceptionDistance

from sonosynth.errors import ClassError
from sonosynth.metrics.kernel import kernel_distance, kernel_interval


def features(n: int, dimension: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimension)) + shift


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
        intervals = np.array([kernel_interval(x, y) for x, y in pairs])
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
        assert kernel_interval(x, y) == pytest.approx((value - reach, value + reach), rel=1e-9)

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
        assert kernel_interval(x, y, groups) == pytest.approx((value - reach, value + reach), rel=1e-9)

    def test_none_with_few_groups(self):
        x, y = features(20, 5, 0), features(20, 5, 1)
        assert kernel_interval(x, y, groups_x=np.arange(20) % 4) is None
        assert kernel_interval(x, y, groups_x=np.arange(20) % 5) is not None
