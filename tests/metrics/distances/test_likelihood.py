import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.distances.likelihood import METRICS, fit_log_variances, negative_log_likelihoods
from sonosynth.metrics.scorecard import measure


def features(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 8)) @ np.diag([3, 2, 1, 1, 1, 0.5, 0.5, 0.2]) + shift


def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None] - y[None]) ** 2).sum(axis=2)


def test_widths_make_the_training_images_as_likely_as_a_general_optimiser_finds():
    train, centres = features(60, 0), features(5, 1)
    distances, to_mean = squares(train, centres), ((train - train.mean(axis=0)) ** 2).sum(axis=1)

    def loss(log_variances: np.ndarray) -> float:
        # One density after the other, as the paper has them: the centres with 1 / M each, and the background.
        columns = np.column_stack([distances, 0.81 * to_mean])
        weights = np.append(np.full(5, 1 / 5), 1.0)
        variances = np.exp(log_variances)
        densities = np.exp(-columns / (2 * variances)) / (2 * np.pi * variances) ** 4
        return -np.log(densities @ weights).mean()

    start = np.append(np.log((distances.min(axis=0) + 1e-3) / 8), 0.0)
    best = minimize(loss, start, method="L-BFGS-B", options={"maxiter": 500})
    found = fit_log_variances(distances, to_mean, 8)
    free = minimize(lambda last: loss(np.append(found, last)), [best.x[-1]])
    assert free.fun == pytest.approx(best.fun, abs=2e-3) and free.fun < loss(start) - 0.05


def test_likelihood_is_that_of_the_mixture():
    train, centres, held_out = features(60, 0), features(5, 1), features(7, 2)
    to_mean = ((train - train.mean(axis=0)) ** 2).sum(axis=1)
    variances = np.exp(fit_log_variances(squares(train, centres), to_mean, 8))
    pairs = list(zip(centres, variances, strict=True))
    density = np.mean([multivariate_normal(centre, v * np.eye(8)).pdf(held_out) for centre, v in pairs], axis=0)
    assert negative_log_likelihoods(train, centres, held_out) == pytest.approx(-np.log(density) / 8, rel=1e-9)


def rows(synthetic: np.ndarray, n: int = 100):
    x = np.concatenate([features(n, 0), features(n, 1), synthetic])
    t, u, s = np.split(np.arange(len(x)), [n, 2 * n])
    comparison = Comparison(Space("features", x, np.arange(len(x))), "train", "all", t, s, u, np.concatenate([t, u]))
    return {row.metric.removeprefix(METRICS[0].name): row for row in measure(METRICS, [comparison])}


@pytest.mark.long
def test_every_fault_lies_above_the_real_baseline():
    fair = rows(features(100, 2))
    row, small = fair[""], fair["_at_baseline_n"]
    assert row.low < row.value < row.high and row.real_baseline_n == 50
    assert abs(small.value - row.real_baseline) < 3
    copies = np.concatenate([features(100, 0)[:90], features(10, 2)])
    collapsed = np.repeat(features(5, 2), 20, axis=0) + 0.01 * features(100, 3)
    for faulty in (features(100, 2, shift=2), copies, collapsed):
        found = rows(faulty)["_at_baseline_n"]
        assert found.value > found.real_baseline + 2


def test_copies_of_all_training_images_have_a_finite_value():
    assert np.isfinite(rows(features(100, 0))[""].value)


def test_without_held_out_images_says_what_is_missing():
    x = np.concatenate([features(30, 0), features(30, 1)])
    t, s = np.split(np.arange(60), 2)
    row = measure(METRICS, [Comparison(Space("features", x, np.arange(60)), "train", "all", t, s, t[:0], t)])[0]
    assert row.value is None and "needs held-out images" in row.note and row.n_real == 30
