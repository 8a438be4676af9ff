"""Improved precision and recall, density and coverage of two sets of features (PRDC), and their intervals."""

from typing import Any

import numpy as np

from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.intervals.split_half import Proportion, split_half_intervals
from sonosynth.metrics.metric import Interval, Metric, Value
from sonosynth.metrics.neighbours import Neighbours, block

NEIGHBOURS = 5  # the k of k-th nearest neighbour
_PROPORTIONS = {
    "precision": Proportion(of_first=False),
    "recall": Proportion(of_first=True),
    "density": Proportion(of_first=False, bounded=False),
    "coverage": Proportion(of_first=True),
}


def adapted_k(n: int, m: int, k: int = NEIGHBOURS) -> int:
    """Return the k that sets of `n` and `m` images are scored with: `k`, or less where one has fewer than k + 1."""
    return min(k, n - 1, m - 1)


def prdc(x: np.ndarray, y: np.ndarray, k: int = NEIGHBOURS) -> dict[str, float]:
    """Return ``precision``, ``recall``, ``density`` and ``coverage`` of `y` ``[M, D]`` against real `x` ``[N, D]``.

    The ball around an image reaches to its k-th nearest other image of its own set, bounds not included. In sets of
    fewer than k + 1 images k is `adapted_k`. All values depend on N, M and D: equal distributions do not give 1.

    * precision: share of `y` inside a ball around any of `x`, 0 to 1 (Kynkäänniemi et al., "Improved Precision and
      Recall Metric for Assessing Generative Models", NeurIPS 2019).
    * recall: share of `x` inside a ball around any of `y`, 0 to 1 (ibid.).
    * density: 1 / k of the mean number of balls around `x` that one of `y` lies in. At least 0, near 1 for equal
      distributions, and larger where `y` crowds at the modes of `x`, so it has no upper bound (Naeem et al., "Reliable
      Fidelity and Diversity Metrics for Generative Models", ICML 2020).
    * coverage: share of `x` whose own ball holds one of `y`, 0 to 1; about ``1 - 2^-k`` for equal distributions and
      N = M (ibid.).
    """
    return _scores(*_neighbours(Comparison.of_features(x, y)), np.arange(len(x)), np.arange(len(y)), k)


def _neighbours(c: Comparison) -> tuple[Neighbours, Neighbours, np.ndarray]:
    xx, yy, xy = c.blocks(c.space.squared_distances)
    return Neighbours(xx), Neighbours(yy), xy


def _scores(
    x: Neighbours, y: Neighbours, xy: np.ndarray, a: np.ndarray, b: np.ndarray, k: int = NEIGHBOURS, density_k: int = 0
) -> dict[str, float]:
    """Return all four of images `a` of the first and images `b` of the second set, as if there were no others.

    Density is that of `density_k` neighbours, 0: of k.
    """
    k, density_k = (adapted_k(len(a), len(b), of) for of in (k, density_k or k))
    radii_x, radii_y = x.radii(a, k), y.radii(b, k)
    between = block(xy, a, b)
    inside = between < radii_x[:, None]
    dense = inside if density_k == k else between < x.radii(a, density_k)[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((between < radii_y).any(axis=1).mean()),
        "density": float(dense.sum() / (density_k * len(b))),
        "coverage": float(inside.any(axis=1).mean()),
    }


def _values(c: Comparison) -> dict[str, float | Value]:
    n, m = len(c.real), len(c.synthetic)
    values = _scores(*_neighbours(c), np.arange(n), np.arange(m))
    k = adapted_k(n, m)
    note = f"k = {k}, since sets of {n} and {m} images are too small for {NEIGHBOURS}" if k < NEIGHBOURS else ""
    return {name: Value(value, note) for name, value in values.items()}


def _intervals(c: Comparison, _: dict[str, float]) -> dict[str, Interval]:
    """Return intervals that are meant to hold the expected values for sets of these sizes.

    In simulation with normal features (D = 16 to 64; synthetic ones equal, shifted, narrower, wider, or with a fifth of
    copies), 95 % intervals held the expected value in 0.93 to 0.99 of 200 repeats at N = M = 100, and in 0.92 to 0.97
    at 400 (equal and shifted). Where a share is near 1 they are long: at an expected 0.996, 1.8 times the ideal length.
    The share of a distribution that lies in a ball which reaches to the k-th of n neighbours has the relative variance
    1 / k - 1 / n (a beta distribution). So that it is in halves what it is in the whole, their density is that of 4
    neighbours below 45 real images; with 5, intervals held 0.76 to 0.82 at 25. And where half of an image's class, on
    average, is k images or fewer, k is one less than that half: the k-th neighbour would be of another class, and where
    classes are far apart every image would lie in its ball (of three classes, 25 images: intervals of precision held
    0.4 to 0.5).
    """
    near, rng = _neighbours(c), numpy_generator(c.seed, "manifold interval")
    k, of_classes = adapted_k(len(c.real), len(c.synthetic)), np.bincount(c.space.labels[c.real])
    within_class = max(1, int((of_classes**2).sum() / len(c.real) / 2) - 1)

    def scores(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        of_half = k if len(a) == len(c.real) else min(k, within_class)
        as_dense = round(1 / (1 / k - 1 / len(c.real) + 1 / len(a)))
        return _scores(*near, a, b, of_half, min(of_half, as_dense))

    return split_half_intervals(scores, _PROPORTIONS, c.units, rng)


_SHARED: dict[str, Any] = {
    "part": "diversity",
    "value": _values,
    "interval": _intervals,
    "interval_method": "disjoint halves, whole groups",
    "prepare": lambda c: c.space.squared_distances,
    "decimals": 3,
    "report_decimals": 2,
}
_SHARE: dict[str, Any] = {"direction": "larger", "range": (0.0, 1.0)}

_KYNKAANNIEMI, _NAEEM = "Kynkäänniemi et al., NeurIPS 2019", "Naeem et al., ICML 2020"
METRICS = (
    Metric(
        **_SHARED,
        **_SHARE,
        name="precision",
        title="Precision",
        about="Share of synthetic images that lie among the real ones: nearer to one of them than its fifth neighbour.",
        reference=_KYNKAANNIEMI,
        sentences=(
            "fewer synthetic images lie among {reference} ({value}) than other real images do ({baseline})",
            "more synthetic images lie among {reference} ({value}) than other real images do ({baseline}): rare ones "
            "may lack",
        ),
    ),
    Metric(
        **_SHARED,
        **_SHARE,
        name="recall",
        title="Recall",
        about="Share of real images that lie among the synthetic ones.",
        reference=_KYNKAANNIEMI,
        headline=True,
        sentences=(
            "part of the variety of {reference} is missing: {value} of it is reached, by other real images {baseline}",
            "more {reference} lie among synthetic images ({value}) than would among other real ones ({baseline})",
        ),
    ),
    Metric(
        **_SHARED,
        name="density",
        title="Density",
        about="How many real neighbourhoods a synthetic image lies in, as a share of five: about 1 for real images, "
        "more where images crowd at what is typical.",
        reference=_NAEEM,
        direction="target",
        sentences=(
            "sparser among {reference} than other real images ({value} against {baseline})",
            "crowded at what is typical of {reference} ({value}, other real images {baseline})",
        ),
    ),
    Metric(
        **_SHARED,
        **_SHARE,
        name="coverage",
        title="Coverage",
        about="Share of real images with a synthetic image in their neighbourhood.",
        reference=_NAEEM,
        headline=True,
        sentences=(
            "fewer {reference} have a synthetic image near ({value}) than would have another real one ({baseline})",
            "more {reference} have a synthetic image near ({value}) than would have another real one ({baseline})",
        ),
    ),
)
