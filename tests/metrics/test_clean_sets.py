"""A short form of benchmarks/clean_sets.py: what is said of clean sets, and of shifted ones, in normal features."""

from functools import cache

import numpy as np
import pytest

from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.comparison import Space, comparisons
from sonosynth.metrics.interpretation import interpret, with_baseline_rows
from sonosynth.metrics.metric import get_metric
from sonosynth.metrics.scorecard import measure

pytestmark = [pytest.mark.long]

METRICS = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
SETS = 60


def drawn(n: int, group: int, rng: np.random.Generator) -> tuple[np.ndarray, ImageSet]:
    """Return features of two classes that are far apart, half of the variance shared within a group."""
    labels = np.arange(n) * 2 // n
    groups = np.arange(n) // group
    features = np.sqrt(0.5) * (rng.standard_normal((n, 8))[groups] + rng.standard_normal((n, 8)))
    features[:, 0] += 6 * labels
    names = tuple(map(str, range(n)))
    return features, ImageSet(np.zeros((n, 4, 4), np.uint8), labels, ("a", "b"), groups, names)


@cache
def found(n: int, group: int, shift: float = 0.0, n_synthetic: int = 60) -> dict[str, list[tuple]]:
    """Return, for each metric, the rows of `SETS` draws beside their real baselines and what is said of them."""
    rows: dict[str, list[tuple]] = {}
    for seed in range(SETS):
        rng = np.random.default_rng(seed)
        parts = [drawn(n, group, rng), drawn(n, group, rng), drawn(n_synthetic, 1, rng)]
        parts[2][0][:] += shift
        sets = dict(zip(("train", "held-out", "synthetic"), (images for _, images in parts), strict=True))
        whole = ImageSet.concatenate(sets.values())
        space = Space("f", np.concatenate([x for x, _ in parts]), whole.groups, sets, labels=whole.labels)
        for score, there in with_baseline_rows(measure([get_metric(name) for name in METRICS], comparisons(space, ()))):
            rows.setdefault(score.metric, []).append((score, there, interpret(score, there)))
    return rows


@pytest.mark.parametrize(("n", "group"), [(60, 1), (120, 4)])
@pytest.mark.parametrize("metric", METRICS)
class TestCleanSets:
    def test_are_hardly_ever_accused_or_praised(self, metric, n, group):
        states = [reading.state for _, _, reading in found(n, group)[metric]]
        assert len(states) == 2 * SETS
        assert sum(state in ("worse", "better") for state in states) <= 0.1 * len(states)

    def test_have_the_mean_value_of_the_baseline(self, metric, n, group):
        of_held_out = [(a, b) for a, b, _ in found(n, group)[metric] if a.reference == "held-out"]
        differences = np.array([there.value - score.real_baseline for score, there in of_held_out])
        assert abs(differences.mean()) < 3.5 * differences.std(ddof=1) / np.sqrt(SETS)

    def test_are_covered_by_intervals_that_are_not_too_long(self, metric, n, group):
        rows = [score for score, _, _ in found(n, group)[metric] if score.reference == "train"]
        values, low, high = np.array([(row.value, row.low, row.high) for row in rows]).T
        assert ((low <= values.mean()) & (values.mean() <= high)).mean() >= 0.88
        if metric in ("frechet_distance", "kernel_distance"):
            assert (high - low).mean() < 1.6 * 2 * 1.96 * values.std(ddof=1)  # 1.3, and the chance of 60 sets


def test_a_shift_is_noticed_with_groups_as_well_as_without():
    """Thirty groups of one image, and of four: averaging over images of a group must not hide what is noticed."""

    def noticed(group: int) -> float:
        rows = found(30 * group, group, 0.75)["kernel_distance"]
        return float(np.mean([reading.state == "worse" for score, _, reading in rows if score.reference == "held-out"]))

    assert noticed(4) >= noticed(1) - 0.1 > 0.3
