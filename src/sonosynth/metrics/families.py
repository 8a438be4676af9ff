"""The metrics of the scorecard that compare two sets of images, in families that share their work."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sonosynth.core.errors import ClassError
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.distances.frechet import frechet_from_gram, frechet_infinity, frechet_interval_from_gram
from sonosynth.metrics.distances.kernel import (
    gaussian_kernel,
    kernel_from_matrix,
    kernel_interval_from_matrix,
    polynomial_kernel,
)
from sonosynth.metrics.diversity.alpha_precision import alpha_precision_intervals, alpha_precision_values
from sonosynth.metrics.diversity.precision_recall import (
    NEIGHBOURS,
    adapted_k,
    precision_recall_intervals,
    precision_recall_values,
)
from sonosynth.metrics.intervals.subsampling import Interval
from sonosynth.metrics.neighbours import squared_distances
from sonosynth.metrics.ultrasound.realism import realism_distance, realism_intervals

Part = Literal["distances", "diversity", "memorisation", "realism"]
PARTS: tuple[Part, ...] = ("distances", "diversity", "memorisation", "realism")
"""What a scorecard is made of."""

Better = Literal["smaller", "larger", "neither"]

BETTER: Mapping[str, Better] = {
    "frechet_distance": "smaller",
    "frechet_distance_infinity": "smaller",
    "kernel_distance": "smaller",
    "cmmd": "smaller",
    "precision": "larger",
    "recall": "larger",
    "density": "neither",  # above that of real images it tells of crowding at few modes
    "coverage": "larger",
    "alpha_precision": "larger",
    "beta_recall": "larger",
    "authenticity": "larger",
    "near_copies": "smaller",
    "nearest_distance_ratio": "neither",
    "membership_auc": "smaller",
    "data_copying": "neither",
    "speckle_contrast_distance": "smaller",
    "nakagami_distance": "smaller",
    "axial_width_distance": "smaller",
    "lateral_width_distance": "smaller",
    "power_spectrum_distance": "smaller",
    "depth_profile_distance": "smaller",
}
"""Every metric, in the order of the scorecard, and which way is better."""
ONLY_TO_TRAIN = frozenset({"authenticity"})
"""Metrics that say if images are too near to those that a generator saw, and nothing of other images."""


@dataclass(frozen=True)
class Values:
    """Values of a family; a metric whose value is None has a note that says why."""

    values: Mapping[str, float | None]
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """Metrics that share their work.

    Attributes:
        measure: from the indices of reference and of synthetic images to the values.
        intervals: from a comparison, a seed and the values to the intervals of those metrics that have one; asked for
            only where every metric has a value.
        baselines: whether there is a real baseline.
    """

    measure: Callable[[np.ndarray, np.ndarray], Values]
    intervals: Callable[[Comparison, int, Mapping[str, float]], Mapping[str, Interval]]
    baselines: bool = True


def feature_families(features: np.ndarray, groups: np.ndarray, parts: Sequence[Part], seed: int = 0) -> list[Family]:
    """Return the families of `parts` that compare `features`, float64 ``[N, D]``, of images of `groups` ``[N]``.

    `seed` is of the draws that a value rests on, not of those of intervals.
    """
    families = []
    if "distances" in parts:
        gram = features @ features.T
        families += [
            _one(
                "frechet_distance",
                lambda i, j: frechet_from_gram(gram, i, j),
                lambda c, seed, value: frechet_interval_from_gram(value, gram, *_sides(c), seed=seed),
            ),
            _infinity(features, groups, seed),
            _kernel("kernel_distance", polynomial_kernel(gram, features.shape[1])),
            _kernel("cmmd", gaussian_kernel(gram)),
        ]
    if "diversity" in parts:
        distances = squared_distances(features)
        families += [_manifold(distances), _alpha(distances)]
    return families


def realism_family(values: Mapping[str, np.ndarray]) -> Family:
    """Return the family that compares measures of speckle; see `realism_values`."""

    def measure(i: np.ndarray, j: np.ndarray) -> Values:
        try:
            return Values({name: realism_distance(of_images, i, j) for name, of_images in values.items()})
        except ClassError as error:
            return Values(dict.fromkeys(values), dict.fromkeys(values, str(error)))

    return Family(
        measure,
        lambda c, seed, _: realism_intervals(values, *_sides(c), seed=seed) or {},
    )


def missing(metrics: Iterable[str], why: str) -> Family:
    """Return a family of `metrics` that have no value."""
    found = Values(dict.fromkeys(metrics), dict.fromkeys(metrics, why))
    return Family(lambda i, j: found, lambda c, seed, _: {}, baselines=False)


def _sides(c: Comparison) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    i, j = c.reference_images, c.synthetic_images
    return i, j, c.groups[i], c.groups[j]


def _one(
    name: str,
    value: Callable[[np.ndarray, np.ndarray], float],
    interval: Callable[[Comparison, int, float], Interval],
) -> Family:
    return Family(
        lambda i, j: Values({name: value(i, j)}),
        lambda c, seed, values: {name: interval(c, seed, values[name])},
    )


def _kernel(name: str, kernel: np.ndarray) -> Family:
    return _one(
        name,
        lambda i, j: kernel_from_matrix(kernel, i, j),
        lambda c, seed, value: kernel_interval_from_matrix(kernel, *_sides(c)),
    )


def _infinity(features: np.ndarray, groups: np.ndarray, seed: int) -> Family:
    name = "frechet_distance_infinity"

    def measure(i: np.ndarray, j: np.ndarray) -> Values:
        found = frechet_infinity(features[i], features[j], groups[i], groups[j], seed)
        return Values({name: found.value}, {name: found.reason} if found.reason else {})

    return Family(measure, lambda c, seed, _: {}, baselines=False)


def _manifold(distances: np.ndarray) -> Family:
    def measure(i: np.ndarray, j: np.ndarray) -> Values:
        values = precision_recall_values(distances, i, j)
        k = adapted_k(len(i), len(j))
        note = f"k = {k}, since sets of {len(i)} and {len(j)} images are too small for {NEIGHBOURS}"
        return Values(values, dict.fromkeys(values, note) if k < NEIGHBOURS else {})

    def intervals(c: Comparison, seed: int, _: Mapping[str, float]) -> Mapping[str, Interval]:
        return precision_recall_intervals(distances, *_sides(c), seed=seed) or {}

    return Family(measure, intervals)


def _alpha(distances: np.ndarray) -> Family:
    def intervals(c: Comparison, seed: int, _: Mapping[str, float]) -> Mapping[str, Interval]:
        return alpha_precision_intervals(distances, *_sides(c), seed=seed) or {}

    return Family(lambda i, j: Values(alpha_precision_values(distances, i, j)), intervals)
