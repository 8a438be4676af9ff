import numpy as np
import pytest

from sonosynth.core.errors import ClassError
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.diversity.vendi import METRICS, vendi_score
from sonosynth.metrics.scorecard import measure


def features(n: int, dimension: int, seed: int) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).standard_normal((n, dimension)))


def test_known_values():
    assert vendi_score(np.eye(7)) == pytest.approx(7)
    assert vendi_score(np.ones((9, 3))) == pytest.approx(1)
    assert vendi_score(np.repeat(np.eye(4), 5, axis=0)) == pytest.approx(4)
    shares = np.array([0.7, 0.2, 0.1])  # of three kinds that have nothing in common
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert vendi_score(np.repeat(np.eye(3), [7, 2, 1], axis=0)) == pytest.approx(expected)
    assert vendi_score(np.zeros((5, 3))) == pytest.approx(1)


def test_is_the_entropy_of_the_singular_values_of_unit_features():
    x = features(30, 12, 0)
    squares = np.linalg.svd(x / np.linalg.norm(x, axis=1, keepdims=True), compute_uv=False) ** 2 / 30
    assert vendi_score(x) == pytest.approx(np.exp(-(squares * np.log(squares)).sum()), rel=1e-9)
    assert vendi_score(x * np.random.default_rng(1).uniform(0.1, 9, (30, 1))) == pytest.approx(vendi_score(x))


def test_wrong_features_are_refused():
    with pytest.raises(ClassError, match="at least 1"):
        vendi_score(np.empty((0, 3)))
    with pytest.raises(ValueError, match="finite"):
        vendi_score(np.full((3, 3), np.nan))


def rows(synthetic: np.ndarray):
    x = np.concatenate([features(80, 12, 0), synthetic])
    real, made = np.split(np.arange(len(x)), [80])
    space = Space("features", x, np.arange(len(x)))
    return {
        row.metric: row for row in measure(METRICS, [Comparison(space, "train", "all", real, made, real[:0], real)])
    }


def test_collapse_lies_below_the_real_baseline_and_fresh_images_do_not():
    fair, collapsed = rows(features(80, 12, 1)), rows(np.repeat(features(4, 12, 1), 20, axis=0))
    row, small = fair["vendi_score"], fair["vendi_score_at_baseline_n"]
    assert row.value == pytest.approx(vendi_score(features(80, 12, 1))) and row.low < row.value < row.high
    assert (row.real_baseline_n, small.n_synthetic) == (40, 40)
    assert small.value == pytest.approx(row.real_baseline, rel=0.05)
    assert collapsed["vendi_score"].high < 0.8 * row.real_baseline


@pytest.mark.long
def test_interval_holds_the_mean_over_repeats():
    found = [rows(features(60, 12, seed + 10))["vendi_score"] for seed in range(40)]
    expected = np.mean([row.value for row in found])
    assert np.mean([row.low <= expected <= row.high for row in found]) >= 0.85
